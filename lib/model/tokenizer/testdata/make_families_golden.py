"""Writes families_golden.json: tokenizer.json as the model families have it, and token ids of 200 strings, special tokens
in them included, by the Python packages tokenizers and transformers.
usage: pip install tokenizers==0.22.2 transformers==5.2.0 tiktoken==0.14.0, then
       node -e 'import("./mixed_text.mjs").then((m) => process.stdout.write(JSON.stringify(m.mixedStrings())))' \
         | python3 make_families_golden.py > families_golden.json

Each is a small one of hf_tokenizer_golden.json (`base`) with parts changed (`change`) to what the family's own file has.
Of the ids there is a digest for each string: the first 8 digits of the SHA-256 of all as little-endian int32.
"""
import base64
import hashlib
import json
import os
import struct
import sys
import tempfile
from importlib.metadata import version

import tiktoken
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from make_hf_tokenizer_golden import GPT4O, LLAMA3

TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def words(pattern, behavior="Isolated", invert=False):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL]}


def template(*parts):
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = lambda name, type_id: {"Sequence": {"id": name, "type_id": type_id}}
    return {"type": "TemplateProcessing", "single": [bos, text("A", 0)], "pair": [bos, text("A", 0), text("B", 1)],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}


# Added behind a vocabulary: content, and what is not as usual (special, stripping no spaces, not normalised).
ADDED = {
    "phi-3": [("<|user|>", dict(rstrip=True)), ("<|assistant|>", dict(rstrip=True))],
    "lstrip": [("<|user|>", dict(lstrip=True, rstrip=True))],
    "qwen": [("<|user|>", {}), ("<think>", dict(special=False)), ("</think>", dict(special=False))],
    "gemma": [("\n\n", dict(special=False)), ("\n\n\n\n", dict(special=False)), ("▁▁", dict(special=False)),
              ("<|user|>", {})],
    "normalized": [("<|user|>", dict(normalized=True)), ("e g", dict(special=False, normalized=True))],
}
# family: (base, changed parts, added tokens)
CASES = {
    "llama-2": ("llama-2", {}, None),
    "phi-3": ("llama-2", {}, "phi-3"),
    "llama-2 normalized tokens": ("llama-2", {}, "normalized"),
    "mistral-v3": ("mistral", {}, "qwen"),
    "Metaspace that splits": ("mistral", {"pre_tokenizer": {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}}, None),
    "mixtral lstrip": ("mistral", {}, "lstrip"),
    "gemma-3": ("gemma", {}, "gemma"),
    "llama-3": ("llama-3", {"post_processor": {"type": "Sequence", "processors": [
        dict(BYTE_LEVEL, use_regex=True, add_prefix_space=True), template()]}}, "qwen"),
    "smollm-3": ("llama-3", {"post_processor": dict(BYTE_LEVEL, use_regex=True)}, "qwen"),
    "smollm": ("llama-3", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, dict(BYTE_LEVEL, use_regex=True)]}}, None),
    "tekken": ("llama-3", {"pre_tokenizer": words(TEKKEN)}, "qwen"),
    "phi-4": ("qwen2", {"pre_tokenizer": words(LLAMA3, "Removed", True),
                        "post_processor": dict(BYTE_LEVEL, trim_offsets=False)}, "lstrip"),
    "qwen-2.5": ("qwen2", {"normalizer": {"type": "NFC"}, "post_processor": BYTE_LEVEL}, "qwen"),
    "gpt-4o": ("gpt-4o", {"pre_tokenizer": words(GPT4O)}, "qwen"),
}


def digest(ids):
    return hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()[:8]


def changed(json_, change, added):
    size = max(*json_["model"]["vocab"].values(), *(token["id"] for token in json_["added_tokens"])) + 1
    new, tokens = iter(range(size, size + 9)), []
    for content, flags in ADDED.get(added, []):
        id = json_["model"]["vocab"].get(content)
        tokens.append({"id": next(new) if id is None else id, "content": content, "single_word": False, "lstrip": False,
                       "rstrip": False, "normalized": False, "special": True, **flags})
    return {**change, "added_tokens": json_["added_tokens"] + tokens}


def by_transformers(whole, strings):
    """Ids by AutoTokenizer, from a folder with the family's tokenizer_config.json."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"tokenizer.json": whole, "config.json": {"model_type": "llama"},
                 "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}}
        for name, value in files.items():
            json.dump(value, open(os.path.join(folder, name), "w"))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return [tokenizer.encode(text, add_special_tokens=False) for text in strings]


def tekken(base, strings):
    """A tekken.json of a byte-level vocabulary, and ids by tiktoken: a token of n merges is of rank 256 + n."""
    of_byte = {}
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    for byte in range(256):
        of_byte[chr(byte) if byte in printable else chr(256 + others.index(byte))] = byte
    merged = ["".join(pair) for pair in base["model"]["merges"]]
    ranks = [bytes([byte]) for byte in range(256)] + [bytes(of_byte[c] for c in piece) for piece in dict.fromkeys(merged)]
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    reserved, unused = 8, 6  # special tokens that there is room for; ranks past the vocabulary's end
    encoding = tiktoken.Encoding("tekken", pat_str=TEKKEN, mergeable_ranks={piece: i for i, piece in enumerate(ranks)},
                                 special_tokens={})
    def text_of(piece):
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return None
    file = {
        "config": {"pattern": TEKKEN, "num_vocab_tokens": len(ranks) + unused, "default_vocab_size": len(ranks) + reserved,
                   "default_num_special_tokens": reserved, "version": "v3"},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(piece).decode(), "token_str": text_of(piece)}
                  for i, piece in enumerate(ranks + [b"\xff" * (9 + i) for i in range(unused)])],
        "special_tokens": [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(special)],
    }
    ids = [[reserved + id for id in encoding.encode_ordinary(text)] for text in strings]
    return {"json": file, "digests": [digest(each) for each in ids]}


def main():
    strings = json.load(sys.stdin)
    with open("hf_tokenizer_golden.json") as file:
        bases = {name: case["json"] for name, case in json.load(file)["cases"].items()}
    cases = {}
    for name, (base, change, added) in CASES.items():
        change = changed(bases[base], change, added)
        whole = {**bases[base], **change}
        tokenizer = Tokenizer.from_str(json.dumps(whole))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in strings]
        assert ids == by_transformers(whole, strings), name
        cases[name] = {"base": base, "change": change, "digests": [digest(each) for each in ids]}
    out = {"source": ", ".join(f"{name} {version(name)}" for name in ["tokenizers", "transformers", "tiktoken"]),
           "strings": hashlib.sha256(json.dumps(strings, ensure_ascii=False).encode()).hexdigest(), "cases": cases,
           "tekken": tekken(bases["llama-3"], strings)}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
                       for name, value in out.items())
    print(f"{{{lines}}}")


if __name__ == "__main__":
    main()
