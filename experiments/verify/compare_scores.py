"""Compares two scorings of the same tokens: losses, decisions and ratios.

usage: python3 compare_scores.py A.json B.json
Each file holds what `deno task score --json` or numpy_llama.py prints: one object, or a list of
{ids, nll, keep, layers}.
Decisions feed back, so losses are compared up to the first token at which a layer decides otherwise.
Prints a line a sequence, then a total; exits with 1 where the tokens or the filtered layers differ.
"""
import json
import math
import sys


def load(path):
    found = json.load(open(path))
    found = found.get("sequences", [found]) if isinstance(found, dict) else found
    return found


def main():
    a, b = map(load, sys.argv[1:3])
    if len(a) != len(b):
        sys.exit(f"Cannot compare: found {len(a)} and {len(b)} sequences")
    worst, flips, decided, total, count = 0.0, 0, 0, [0.0, 0.0], 0
    for n, (x, y) in enumerate(zip(a, b)):
        if x["ids"] != y["ids"] or x["layers"] != y["layers"]:
            sys.exit(f"Cannot compare sequence {n}: the ids or the filtered layers differ")
        T = len(x["ids"])
        differ = [t for t in range(T) if any(p[t] != q[t] for p, q in zip(x["keep"], y["keep"]))]
        first = differ[0] if differ else T
        same = [abs(p - q) for p, q in zip(x["nll"][:first], y["nll"][:first])]
        moved = sum(p[t] != q[t] for p, q in zip(x["keep"], y["keep"]) for t in range(T))
        print(f"sequence {n}: {T} tokens, decisions that differ {moved}, first at {first if differ else 'none'}, "
              f"largest difference of losses before it {max(same, default=0):.2e}")
        worst, flips, decided = max(worst, max(same, default=0)), flips + moved, decided + T * len(x["layers"])
        total = [total[0] + sum(x["nll"]), total[1] + sum(y["nll"])]
        count += len(x["nll"])
    share = flips / decided if decided else 0
    print(f"all: largest difference {worst:.2e}, decisions that differ {flips} of {decided} ({share:.2%}), perplexity "
          f"{math.exp(total[0] / count):.4f} and {math.exp(total[1] / count):.4f}")


if __name__ == "__main__":
    main()
