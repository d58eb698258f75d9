"""Writes word_golden.json: what lm-evaluation-harness's wikitext makes of a page, and of token lists.

usage: python3 make_word_golden.py
       (needs lm_eval 0.4.13)
"""
import json
import os

import lm_eval
from lm_eval.api.metrics import weighted_perplexity
from lm_eval.tasks.wikitext.preprocess_wikitext import process_results, wikitext_detokenizer
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

PAGE = (
    " = The Old Mill = \n\n The mill ( built in 1 @,@ 203 ) stands by the river ; it \" still works \" . It 's a long @-@ lived one : "
    "3 @.@ 5 m high , [ sic ] and { once } burnt ! \n = = History = = \n\n Was it the miller 's ? The millers ' wheel is at 51 \u00b0 N there "
    ". \n = = = Later = = = \n\n = = = = Today = = = = \n 'Tis ' quiet ' now . \n"
)
LENGTHS = [(1, 4), (4, 4), (5, 4), (12, 4), (23, 7)]


def windows(length, most):
    rolled = get_rolling_token_windows(list(range(1, length + 1)), prefix_token=0, max_seq_len=most, context_len=1)
    return [[list(part) for part in make_disjoint_window(pair)] for pair in rolled]


if __name__ == "__main__":
    results = process_results({"page": PAGE}, (-321.5,))
    golden = {
        "madeBy": "lib/eval/testdata/make_word_golden.py",
        "lm_eval": lm_eval.__version__,
        "page": PAGE,
        "detokenized": wikitext_detokenizer({"page": PAGE}),
        "words": results["word_perplexity"][1],
        "logLikelihood": -321.5,
        "perplexity": weighted_perplexity([results["word_perplexity"]]),
        "windows": [{"length": length, "most": most, "pairs": windows(length, most)} for length, most in LENGTHS],
    }
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "word_golden.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(golden) + "\n")
