"""Draws tokenizers of random parts, trained on a random text, and their ids of random texts.

usage: python3 draw_tokenizers.py SEED COUNT FOLDER        (needs tokenizers; the same cases of the same seed)

FOLDER/cases.json: a list of {name, json, texts, ids, pairs}: a tokenizer.json, texts, and the ids that the package gives them,
special tokens that are written in a text as tokens, none added; and contexts and continuations with the ids of each.
"""
import json
import os
import random
import resource
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SYLLABLES = ["ba", "ke", "lo", "mi", "nu", "ra", "st", "th", "er", "ing", "é", "ñ", "ß", "Σ", "ς", "İ", "да", "но", "東", "京", "\U00020000",
             "가", "ا", "A", "B", "É", "x", "1", "23", "²", "¾", "_", "ﬁ", "e\u0301", "🦊", "👩\u200d💻"]
SPACES = [" ", "  ", "   ", "\n", "\t", "\r\n", "\x85", "\ufeff", "\u00a0", "\u2003", "\u3000", "\u2028", "\u200b", "\x1c", "▁"]
SIGNS = [".", ",", "...", "!", "?", "'s", "'ll", "-", "--", "$", "+", "`", "(", ")", "{a}", "\\", "/", "«", "—", "\x00", "\x07", "\ufffd"]
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_end|>"]


def draw_text(rng, length):
    parts = []
    for _ in range(length):
        roll = rng.random()
        if roll < 0.6:
            parts.append("".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 4))))
            parts.append(" " if rng.random() < 0.6 else "")
        elif roll < 0.75:
            parts.append(rng.choice(SPACES))
        elif roll < 0.92:
            parts.append(rng.choice(SIGNS))
        elif roll < 0.96:
            parts.append(rng.choice(SPECIAL))
        else:
            parts.append(rng.choice(["<div", "haha", "É", "[X]"]))
    return "".join(parts)


def draw_normalizer(rng, depth=0):
    kinds = [
        normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD, normalizers.Lowercase, normalizers.StripAccents,
        lambda: normalizers.Strip(rng.random() < 0.7, rng.random() < 0.7),
        lambda: normalizers.Prepend(rng.choice(["▁", "x"])),
        lambda: normalizers.Replace(rng.choice([" ", "a", "$", Regex(r"\s+"), Regex("[0-9]")]), rng.choice(["▁", "", "$&", " $1", "bb"])),
        lambda: normalizers.BertNormalizer(*(rng.random() < 0.6 for _ in range(2)), rng.choice([None, True, False]), rng.random() < 0.5),
    ]
    if depth == 0 and rng.random() < 0.4:
        return None
    if depth == 0 and rng.random() < 0.4:
        return normalizers.Sequence([draw_normalizer(rng, 1) for _ in range(rng.randint(1, 3))])
    return rng.choice(kinds)()


def draw_words(rng, depth=0):
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    pattern = lambda: rng.choice([" ", "▁", "a", "ba", ".", Regex(GPT2), Regex(LLAMA3), Regex(r"\s+"), Regex(r"\d{1,3}"), Regex(r"\w+|[^\w\s]+")])
    kinds = [
        pre_tokenizers.Whitespace, pre_tokenizers.WhitespaceSplit, pre_tokenizers.BertPreTokenizer,
        lambda: pre_tokenizers.Punctuation(rng.choice(behaviors)),
        lambda: pre_tokenizers.Digits(rng.random() < 0.5),
        lambda: pre_tokenizers.FixedLength(rng.randint(1, 6)),
        lambda: pre_tokenizers.Metaspace("▁", rng.choice(["always", "never", "first"]), rng.random() < 0.7),
        lambda: pre_tokenizers.Split(pattern(), rng.choice(behaviors), rng.random() < 0.25),
    ]
    if depth == 0 and rng.random() < 0.15:
        return None
    if depth == 0 and rng.random() < 0.4:
        return pre_tokenizers.Sequence([draw_words(rng, 1) for _ in range(rng.randint(1, 3))])
    return rng.choice(kinds)()


def encode_pair(encode, context, continuation):
    """As lm-evaluation-harness 0.4.13 cuts a request (TemplateLM._encode_pair)."""
    pair = [context, continuation]
    spaces = len(context) - len(context.rstrip())
    if spaces > 0:
        continuation, context = context[-spaces:] + continuation, context[:-spaces]
    whole, before = encode(context + continuation), encode(context)
    return [*pair, before, whole[len(before):]]


def make(seed, index):
    rng = random.Random(f"{seed}/{index}")
    is_bytes, odd = rng.random() < 0.5, rng.random()
    model = {**({} if is_bytes else {"unk_token": "<unk>"}), "fuse_unk": rng.random() < 0.3, "byte_fallback": not is_bytes and rng.random() < 0.5}
    if is_bytes and rng.random() < 0.3:
        model["ignore_merges"] = True
    if odd < 0.04:
        model["continuing_subword_prefix"] = "##"
    elif odd < 0.08:
        model["end_of_word_suffix"] = "</w>"
    tokenizer = Tokenizer(models.BPE(**model))
    normalizer, words = draw_normalizer(rng), draw_words(rng)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if is_bytes:
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.3, use_regex=rng.random() < 0.5)
        words = pre_tokenizers.Sequence([*([] if words is None else [words]), byte_level])
    if words is not None:
        tokenizer.pre_tokenizer = words
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if model["byte_fallback"] else []
    trainer = trainers.BpeTrainer(
        vocab_size=420 + len(bytes_), special_tokens=SPECIAL + bytes_, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if is_bytes and rng.random() < 0.9 else [],
        limit_alphabet=rng.choice([40, 256]) if not is_bytes else 256,
        **{key: model[key] for key in ("continuing_subword_prefix", "end_of_word_suffix") if key in model},
    )
    tokenizer.train_from_iterator([draw_text(rng, 40) for _ in range(120)], trainer)
    own = json.loads(tokenizer.to_str())
    own["added_tokens"] = [token for token in own["added_tokens"] if token["content"] in SPECIAL]
    if 0.08 <= odd < 0.11:
        own["model"]["dropout"] = 0.3
    for token in own["added_tokens"]:
        if rng.random() < 0.15:
            token["lstrip"], token["rstrip"] = rng.random() < 0.5, rng.random() < 0.5
    tokenizer = Tokenizer.from_str(json.dumps(own))
    more = rng.sample(["<div", "haha", "É", "[X]", "  "], rng.randint(0, 3))
    # The package looks for one of which a normalizer leaves nothing without end.
    stays = lambda text: normalizer is None or normalizer.normalize_str(text) != ""
    tokenizer.add_tokens([
        AddedToken(text, normalized=rng.random() < 0.4 and stays(text), lstrip=rng.random() < 0.1, rstrip=rng.random() < 0.1,
                   single_word=rng.random() < 0.05)
        for text in more
    ])
    texts = ["", " ", "\ufeff", *SPACES, *(draw_text(rng, rng.randint(1, 25)) for _ in range(60))]
    texts += [space.join(["a", "b", "", "c"]) for space in SPACES]
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    pairs = [encode_pair(encode, draw_text(rng, 6) + rng.choice(["", *SPACES]), draw_text(rng, 3)) for _ in range(30)]
    return {"name": f"{index:03d}", "json": tokenizer.to_str(), "texts": texts, "ids": [encode(text) for text in texts],
            "pairs": pairs}


def main():
    seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.makedirs(folder, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    cases = []
    for i in range(count):
        try:
            cases.append(make(seed, i))
        except BaseException as error:  # a panic of the package is none of ours
            if "Panic" not in type(error).__name__:
                raise
    with open(f"{folder}/cases.json", "w") as file:
        json.dump(cases, file)


if __name__ == "__main__":
    main()
