"""Compares two scorings of the same tokens: losses, decisions of both sides.

usage: python3 compare_scores.py A.json B.json
Each file holds what `deno task score --json` or numpy_llama.py writes: one object, or a list of {ids, nll, keep,
layers, kvKeep, kvLayers}; where one list is longer its first sequences are compared.
Decisions feed back, so losses are compared token by token up to the first at which a layer decides otherwise, and by
their means in all. Prints a line a sequence, then a total; exits with 1 where the tokens or the filtered layers differ.
"""
import json
import sys

import numpy as np


def load(path):
    found = json.load(open(path))
    return found if isinstance(found, list) else [found]


def main():
    a, b = map(load, sys.argv[1:3])
    worst, moved, decided, nll = 0.0, np.zeros(2, int), np.zeros(2, int), []
    for n, (x, y) in enumerate(zip(a, b)):
        if any(x[key] != y[key] for key in ("ids", "layers", "kvLayers")):
            sys.exit(f"Cannot compare sequence {n}: the ids or the filtered layers differ")
        T = len(x["ids"])
        differ = [np.reshape(x[side], (-1, T)) != np.reshape(y[side], (-1, T)) for side in ("keep", "kvKeep")]
        moves = np.flatnonzero(differ[0].any(0) | differ[1].any(0))
        end = moves[0] if len(moves) else T
        losses = np.array([x["nll"], y["nll"]])
        apart = np.abs(losses[0] - losses[1])[:end].max(initial=0)
        print(f"sequence {n}: {T} tokens, decisions that differ {differ[0].sum()} of queries, {differ[1].sum()} of "
              f"keys, first at {end if len(moves) else 'none'}; largest difference of losses before it {apart:.1e}, "
              f"of means {losses[0].mean() - losses[1].mean():+.1e}")
        worst, nll = max(worst, apart), [*nll, losses]
        moved, decided = moved + [d.sum() for d in differ], decided + [d.size for d in differ]
    mean = np.concatenate(nll, 1).mean(1)
    print(f"all {len(nll)}: decisions that differ {moved[0]} of {decided[0]} queries, {moved[1]} of {decided[1]} keys; "
          f"largest difference of losses before one {worst:.1e}; mean losses {mean[0]:.6f} and {mean[1]:.6f}, "
          f"{mean[0] - mean[1]:+.1e}")


if __name__ == "__main__":
    main()
