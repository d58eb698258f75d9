"""Text of many kinds, by a seed: accents, emoji, CJK, Arabic, Devanagari, digits, code, runs of spaces, special tokens.

usage: python3 mixed_text.py [--bytes 50000] [--seed 1] > mixed.txt
"""
import argparse
import random
import sys

KINDS = [
    lambda r: r.choice("the of and to in is that for was on with as by at from it an be this which".split()),
    lambda r: r.choice("don't WE'LL it's I'm they've 'Tis naïve café Ångström Übergröße façade señor žluťoučký".split()),
    lambda r: str(r.randrange(10 ** r.randrange(1, 12))),
    lambda r: f"{r.random() * 100:.{r.randrange(6)}f}%",
    lambda r: " " * r.randrange(1, 20),
    lambda r: "\n" * r.randrange(1, 5) + "\t" * r.randrange(4),
    lambda r: r.choice(["\r\n", " \n ", "\u00a0", "\u3000", "\u200b", "\ufeff", "e\u0301", "\u2028"]),
    lambda r: "".join(chr(r.randrange(0x4E00, 0x9FA5)) for _ in range(r.randrange(1, 9))) + r.choice(["。", "，", ""]),
    lambda r: "".join(chr(r.randrange(0x3041, 0x30FF)) for _ in range(r.randrange(1, 9))),
    lambda r: "".join(chr(r.randrange(0xAC00, 0xD7A3)) for _ in range(r.randrange(1, 5))),
    lambda r: r.choice("مرحبا بالعالم السلام عليكم كِتَابٌ".split()),
    lambda r: r.choice("नमस्ते दुनिया हिन्दी में लिखा है संस्कृतम्".split()),
    lambda r: r.choice("Привет мир Ελληνικά שלום ไทย עולם გამარჯობა አማርኛ".split()),
    lambda r: r.choice(["🙂", "👩‍👩‍👧", "🇫🇷", "👍🏽", "❤️", "🏴‍☠️", "𝔘𝔫𝔦", "™", "½", "…"]),
    lambda r: r.choice(["<s>", "</s>", "<|im_start|>", "<bos>", "<unk>", "<0x41>", "<start_of_turn>", "<|endoftext|>"]),
    lambda r: r.choice(["for (let i = 0; i < n; i++) {", "def f(x):\n    return x**2", "a[i][j] += 1;", "#include <x.h>",
                        "SELECT * FROM t WHERE a != 'b';", "x => x?.y ?? z", "https://example.org/a?b=c&d=%20", "$\\frac{1}{2}$",
                        "{\"key\": [1, 2.5, null]}", "|---|:--:|", "***", "======", "//////", "\\\\n"]),
    lambda r: chr(r.choice([r.randrange(0xA1, 0x2FF), r.randrange(0x1F300, 0x1F64F), r.randrange(0x10000, 0x10FFF)])),
]


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--bytes", type=int, default=50_000)
    a.add_argument("--seed", type=int, default=1)
    a = a.parse_args()
    r, out, size = random.Random(a.seed), [], 0
    while size < a.bytes:
        part = r.choice(KINDS)(r) + r.choice([" ", " ", "", "\n"])
        out.append(part)
        size += len(part.encode())
    sys.stdout.buffer.write("".join(out).encode())


main()
