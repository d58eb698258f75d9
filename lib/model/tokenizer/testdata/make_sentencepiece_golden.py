"""Writes sentencepiece_golden.json: a small tokenizer.model as Llama's, and token ids of 200 strings by transformers, special
tokens included, in the old way and the new one (`legacy`).
usage: pip install sentencepiece==0.2.3 transformers==5.2.0 protobuf, then
       node -e 'import("./mixed_text.mjs").then((m) => process.stdout.write(JSON.stringify([m.mixedText(12_000), m.mixedStrings()])))' \
         | python3 make_sentencepiece_golden.py > sentencepiece_golden.json

Digests: see make_families_golden.py.
"""
import base64
import io
import json
import os
import sys
import tempfile
from importlib.metadata import version

import sentencepiece
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from make_families_golden import digest


def train(text, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=model, model_type="bpe", character_coverage=0.98,
        user_defined_symbols=["<div", "hahaha"], control_symbols=["<|im_end|>"], minloglevel=2, num_threads=1,
        max_sentence_length=100_000, normalization_rule_name="identity", remove_extra_whitespaces=False, **options)
    return model.getvalue()


def main():
    mixed, strings = json.load(sys.stdin)
    llama = {}
    with tempfile.TemporaryDirectory() as folder:
        model = train(mixed, vocab_size=540, byte_fallback=True)
        path = os.path.join(folder, "tokenizer.model")
        open(path, "wb").write(model)
        llama["model"] = base64.b64encode(model).decode()
        size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
        llama["added"] = [{"id": size, "content": "<think>", "special": False}]
        for legacy in (True, False):
            tokenizer = SentencePieceBackend(vocab_file=path, legacy=legacy, unk_token="<unk>", bos_token="<s>",
                                             eos_token="</s>", additional_special_tokens=["<|im_end|>"])
            tokenizer.add_tokens(["<think>"])
            prepared = []
            for text in strings:
                # Llama's own tokenizer puts the space in front, and takes it back before a special token; the fast one
                # before any added token.
                parts = text if legacy or text == "" else " " + text.replace("▁", " ")
                tokens = tokenizer.tokenize(parts)
                if not legacy and len(tokens) > 1 and tokens[0] == "▁" and tokens[1] in [*tokenizer.all_special_tokens, "<think>"]:
                    tokens = tokens[1:]
                prepared.append(tokenizer.convert_tokens_to_ids(tokens))
            llama["legacy" if legacy else "new"] = [digest(ids) for ids in prepared]
    out = {"source": ", ".join(f"{name} {version(name)}" for name in ["sentencepiece", "transformers"]), "llama": llama}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in out.items())
    print(f"{{{lines}}}")


if __name__ == "__main__":
    main()
