"""What kvpress's MergingPress makes of the values that stay, for lib/methods/eviction/presses_test.ts.

Run with kvpress 0.5.5 and torch: python make_merge_golden.py > merge_golden.json
"""
import json

import torch
from kvpress import KnormPress, MergingPress

HEADS, TOKENS, D = 2, 24, 4


def case(seed, kept):
    torch.manual_seed(seed)
    keys, values = torch.randn(1, HEADS, TOKENS, D), torch.randn(1, HEADS, TOKENS, D)
    keys[0, 1, 5] = -keys[0, 1, kept[0]]  # one that is like nothing that stays, or nearly
    indices = torch.tensor(kept).expand(1, HEADS, -1)
    _, merged = MergingPress(KnormPress(0.5)).merge(keys, values, indices)
    rows = lambda x: [round(v, 7) for v in x[0].transpose(0, 1).reshape(-1).tolist()]
    return {"kept": kept, "keys": rows(keys), "values": rows(values), "merged": rows(merged[:, :, kept])}


print(json.dumps({
    "source": "kvpress 0.5.5, MergingPress.merge with its defaults; rows: token, head, value",
    "numKvHeads": HEADS, "headDim": D,
    "cases": [case(1, [0, 2, 3, 7, 8, 13, 16, 20, 21, 22, 23]), case(2, [0, 1, 4, 22, 23])],
}))
