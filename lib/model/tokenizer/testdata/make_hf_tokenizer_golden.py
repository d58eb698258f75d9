"""Writes hf_tokenizer_golden.json: small tokenizer.json files of the kinds that model families have, trained on the mixed
text, and token ids of the text by the Python package tokenizers.
usage: pip install tokenizers==0.23.3, then
       node -e 'import("./mixed_text.mjs").then((m) => process.stdout.write(JSON.stringify([m.mixedText(12_000), m.sampleText()])))' \
         | python3 make_hf_tokenizer_golden.py > hf_tokenizer_golden.json
"""
import hashlib
import json
import struct
import sys
from importlib.metadata import version

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_end|>"]
USER = ["<div", "hahaha"]
SIZE = 450


def byte_level(pattern, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre_tokenizers.ByteLevel.alphabet()


def sentence_piece(normalizer, pre=None):
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    return tokenizer, []


def cases():
    replace = normalizers.Replace(" ", "▁")
    yield "llama-2", *sentence_piece(normalizers.Sequence([normalizers.Prepend("▁"), replace])), True
    yield "mistral", *sentence_piece(None, pre_tokenizers.Metaspace("▁", "first", False)), True
    yield "gemma", *sentence_piece(replace, pre_tokenizers.Split(" ", "merged_with_previous")), True
    yield "llama-3", *byte_level(LLAMA3, ignore_merges=True), True
    yield "qwen2", *byte_level(LLAMA3.replace("{1,3}", "")), False
    yield "gpt-4o", *byte_level(GPT4O), False


def main():
    mixed, sample = json.load(sys.stdin)
    out = {}
    for name, tokenizer, alphabet, bos in cases():
        bytes_ = [] if alphabet else [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL + bytes_,
                                      initial_alphabet=alphabet, limit_alphabet=256 if alphabet else 60, show_progress=False)
        tokenizer.train_from_iterator(mixed.split("\n"), trainer)
        own = json.loads(tokenizer.to_str())
        own["added_tokens"] = [token for token in own["added_tokens"] if token["content"] in SPECIAL]
        tokenizer = Tokenizer.from_str(json.dumps(own))
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in USER])
        if bos:
            tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        whole = json.loads(tokenizer.to_str())
        # Special tokens in a text are not parsed here.
        plain = json.loads(tokenizer.to_str())
        plain["added_tokens"] = [token for token in plain["added_tokens"] if not token["special"]]
        plain["post_processor"] = None
        encode = Tokenizer.from_str(json.dumps(plain)).encode
        ids = encode(mixed).ids
        packed = hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()
        out[name] = {"addsBos": bos, "count": len(ids), "sha256": packed, "sample": encode(sample).ids, "json": whole}
        print(name, len(ids), len(json.dumps(whole)), file=sys.stderr)
    source = f"tokenizers {version('tokenizers')}"
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=False, separators=(',', ':'))}" for name, case in out.items())
    print(f'{{"source": {json.dumps(source)}, "cases": {{\n{lines}\n}}}}')


if __name__ == "__main__":
    main()
