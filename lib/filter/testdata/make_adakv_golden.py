"""Tokens that kvpress's AdaKVPress keeps of random tensors, by SnapKV's scores, for lib/methods/eviction/adakv_test.ts.

Run with kvpress 0.5.5, transformers and torch: python make_adakv_golden.py > adakv_golden.json
Others, drawn by a seed, into FOLDER/cases.json: python make_adakv_golden.py SEED COUNT FOLDER
"""
import json
import random
import sys

import torch
import transformers
from kvpress import AdaKVPress, SnapKVPress
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding, apply_rotary_pos_emb

T, D = 96, 8


def case(seed, num_kv_heads, group, window, ratio, sharp):
    """The first KV head's keys are `sharp` times as long, so that few tokens have all of its attention."""
    torch.manual_seed(seed)
    hidden, num_heads = 24, num_kv_heads * group
    config = LlamaConfig(
        hidden_size=hidden, num_attention_heads=num_heads, num_key_value_heads=num_kv_heads, head_dim=D,
        max_position_embeddings=4096, attn_implementation="sdpa",
    )
    module = LlamaAttention(config, layer_idx=0).double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    with torch.no_grad():
        module.k_proj.weight[:D] *= sharp
    x = torch.randn(1, T, hidden, dtype=torch.float64)
    cos, sin = LlamaRotaryEmbedding(config)(x, torch.arange(T)[None])
    keys = module.k_proj(x).view(1, T, -1, D).transpose(1, 2)
    queries = module.q_proj(x).view(1, T, -1, D).transpose(1, 2)
    queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
    scores = queries @ keys.repeat_interleave(group, 1).transpose(2, 3) / D**0.5
    scores = scores.masked_fill(torch.triu(torch.ones(T, T, dtype=torch.bool), 1), -torch.inf)
    attention = scores.softmax(-1)[0].view(num_kv_heads, group, T, T).mean(1)
    press = AdaKVPress(SnapKVPress(compression_ratio=ratio, window_size=window, kernel_size=5))
    with torch.no_grad():
        press.compress(module, x, keys, keys, None, {"position_embeddings": (cos, sin)})
    _, heads, tokens = module.masked_key_indices
    return {
        "numKvHeads": num_kv_heads, "group": group, "window": window, "evicted": len(heads) // num_kv_heads,
        "attention": [[[float(f"{p:.6g}") for p in row] for row in head[-window:].tolist()] for head in attention],
        "dropped": [sorted(tokens[heads == head].tolist()) for head in range(num_kv_heads)],
    }


def draw(seed, index):
    rng = random.Random(f"{seed}/{index}")
    return case(rng.randrange(2**31), rng.choice([1, 2, 3]), rng.choice([1, 2]), rng.choice([1, 4, 16]),
                rng.choice([0.25, 0.5, 0.75]), rng.choice([1, 2, 3]))


if __name__ == "__main__":
    drawn = sys.argv[1:]
    cases = [draw(drawn[0], i) for i in range(int(drawn[1]))] if drawn else [
        case(1, 2, 2, 16, 0.5, 1), case(8, 4, 1, 1, 0.25, 4), case(3, 3, 1, 4, 0.75, 4), case(4, 1, 2, 4, 0.5, 1),
    ]
    golden = json.dumps({
        "versions": {"kvpress": "0.5.5", "torch": torch.__version__, "transformers": transformers.__version__},
        "T": T, "headDim": D, "cases": cases,
    })
    if drawn:
        with open(f"{drawn[2]}/cases.json", "w") as file:
            file.write(golden)
    else:
        print(golden)
