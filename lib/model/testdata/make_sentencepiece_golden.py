"""Writes sentencepiece_golden.json: small tokenizer.model files, unigram and BPE, that normalise text, and token ids of 200
strings by SentencePiece; and those of a Llama's tokenizer.model by transformers, special tokens included, in the old way
and the new one (`legacy`).
usage: pip install sentencepiece==0.2.3 transformers==5.2.0 protobuf, then
       node -e 'import("./mixed_text.mjs").then((m) => process.stdout.write(JSON.stringify([m.mixedText(12_000), m.mixedStrings()])))' \
         | python3 make_sentencepiece_golden.py > sentencepiece_golden.json

The rules are those of nmt_nfkc for the characters below, which keeps the files small; `--full` writes models with all of
them (240 kB each), to be looked at by hand. Digests: see make_families_golden.py.
"""
import base64
import io
import json
import os
import sys
import tempfile
from importlib.metadata import version

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from make_families_golden import digest

RANGES = [(1, 0x100), (0x2000, 0x2070), (0x2160, 0x2190), (0x2460, 0x2474), (0x3000, 0x3010), (0xFEFF, 0xFF60),
          (0x1D49C, 0x1D4A0), (0x0300, 0x0304)]


def rules(folder):
    """A file of nmt_nfkc's rules for the ranges, and for letters with a mark behind them."""
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc", add_dummy_prefix=False, escape_whitespaces=False,
                                                       remove_extra_whitespaces=False)
    single = [chr(code) for first, end in RANGES for code in range(first, end)]
    marked = [letter + mark for letter in "aeinouAEINOU" for mark in "\u0300\u0301\u0303\u0308"]
    path = os.path.join(folder, "rules.tsv")
    with open(path, "w") as file:
        for text in single + marked:
            uniform = normalizer.normalize(text)
            if uniform != text:
                file.write("\t".join(" ".join(f"{ord(c):X}" for c in each) for each in (text, uniform)) + "\n")
    return path


def train(text, model_type, full, folder, **options):
    rule = {"normalization_rule_name": "nmt_nfkc"} if full else {"normalization_rule_tsv": rules(folder)}
    if options.pop("plain", False):
        rule = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=model, model_type=model_type, character_coverage=0.98,
        user_defined_symbols=["<div", "hahaha"], control_symbols=["<|im_end|>"], minloglevel=2, num_threads=1,
        max_sentence_length=100_000, **rule, **options)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    proto.normalizer_spec.normalization_rule_tsv = ""  # a path
    return proto.SerializeToString()


CASES = {
    "unigram": ("unigram", dict(vocab_size=360, hard_vocab_limit=False)),
    "unigram with bytes": ("unigram", dict(vocab_size=620, hard_vocab_limit=False, byte_fallback=True)),
    "unigram, spaces stay": ("unigram", dict(vocab_size=360, hard_vocab_limit=False, remove_extra_whitespaces=False,
                                             add_dummy_prefix=False)),
    "BPE": ("bpe", dict(vocab_size=360)),
    "BPE with bytes": ("bpe", dict(vocab_size=620, byte_fallback=True)),
}


def main():
    mixed, strings = json.load(sys.stdin)
    full = "--full" in sys.argv
    cases, llama = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, options) in CASES.items():
            model = train(mixed, kind, full, folder, **options)
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            cases[name] = {"model": base64.b64encode(model).decode(), "bytes": options.get("byte_fallback", False),
                           "digests": [digest(processor.encode(text)) for text in strings]}
        model = train(mixed, "bpe", full, folder, vocab_size=540, byte_fallback=True, plain=True)
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
    out = {"source": ", ".join(f"{name} {version(name)}" for name in ["sentencepiece", "transformers"]), "cases": cases,
           "llama": llama}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in out.items())
    print(f"{{{lines}}}")


if __name__ == "__main__":
    main()
