"""Scores the sequences of the recipe quick by lm-evaluation-harness's model class, and compares its dense rows.

usage: deno run -A … quick_requests.ts > requests.json; deno task reproduce quick --out DIR
       python3 harness_quick.py MODEL.gguf requests.json DIR/reproduce.json
       (needs torch, transformers, gguf, accelerate, lm_eval 0.4.13; no network)

Exits with 1 where a log-likelihood, or a perplexity of reproduce.json, is more than 1e-3 (relative) away.
"""
import json
import math
import sys

from lm_eval.models.huggingface import HFLM

from hf_gguf import load

TOLERANCE = 1e-3


def main():
    path, requests, reproduced = sys.argv[1:]
    tokenizer, model = load(path)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    with open(requests, encoding="utf-8") as f:
        parts = json.load(f)
    with open(reproduced, encoding="utf-8") as f:
        rows = {part["protocol"]: part["comparison"]["methods"][0] for part in json.load(f)["parts"]}
    worst = 0
    for part in parts:
        sequences = part["sequences"]
        asked = [(("", ""), s["ids"][:s["start"]], s["ids"][s["start"]:]) for s in sequences]
        found = [value for value, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)]
        away = max(abs(x - s["own"]) / abs(s["own"]) for x, s in zip(found, sequences, strict=True))
        line = f"{part['part']}: {len(found)} sequences, largest relative difference {away:.1e}"
        if part["isText"]:
            losses = [-x / (len(s["ids"]) - s["start"]) for x, s in zip(found, sequences)]
            theirs, ours = math.exp(sum(losses) / len(losses)), rows[part["part"]]["perplexity"]
            line += f"; perplexity {theirs:.4f}, the recipe's {ours:.4f}"
            away = max(away, abs(theirs / ours - 1))
        print(line, flush=True)
        worst = max(worst, away)
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
