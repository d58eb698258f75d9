"""Scores and kept tokens of kvpress's presses on random tensors, for lib/methods/eviction/presses_test.ts.

Run with kvpress 0.5.5, transformers and torch: python make_presses_golden.py > presses_golden.json
Others, drawn by a seed, into FOLDER/cases.json: python make_presses_golden.py SEED COUNT FOLDER
"""
import json
import random
import sys
from unittest import mock

import torch
import transformers
from kvpress import (
    CURPress,
    ExpectedAttentionPress,
    KeyDiffPress,
    KnormPress,
    LagKVPress,
    LeverageScorePress,
    SnapKVPress,
    StreamingLLMPress,
    TOVAPress,
)
from kvpress.presses.observed_attention_press import ObservedAttentionPress
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding, apply_rotary_pos_emb

T, D, SINKS, WINDOW = 96, 8, 4, 16


def case(seed, num_heads, num_kv_heads):
    torch.manual_seed(seed)
    hidden = 24
    config = LlamaConfig(
        hidden_size=hidden, num_attention_heads=num_heads, num_key_value_heads=num_kv_heads, head_dim=D,
        max_position_embeddings=4096, attn_implementation="eager",
    )
    module = LlamaAttention(config, layer_idx=0).double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    module.rotary_emb = LlamaRotaryEmbedding(config)
    x = torch.randn(1, T, hidden, dtype=torch.float64) + torch.randn(1, 1, hidden, dtype=torch.float64)
    cos, sin = module.rotary_emb(x, torch.arange(T)[None])
    shape = (1, T, -1, D)
    raw = module.k_proj(x).view(shape).transpose(1, 2)
    values = module.v_proj(x).view(shape).transpose(1, 2)
    queries = module.q_proj(x).view(shape).transpose(1, 2)
    queries, keys = apply_rotary_pos_emb(queries, raw, cos, sin)
    scores = queries @ keys.repeat_interleave(num_heads // num_kv_heads, 1).transpose(2, 3) / D**0.5
    scores = scores.masked_fill(torch.triu(torch.ones(T, T, dtype=torch.bool), 1), -torch.inf)
    attention = scores.softmax(-1)
    kwargs = {"position_embeddings": (cos, sin)}

    def score(press, k=keys):
        with torch.no_grad():
            return press.score(module, x, k, values, attention, kwargs)[0]

    def plain_randn(*size, **options):  # the sketch of LeverageScore, made the identity
        return size[-1] ** 0.5 * torch.eye(size[-1], dtype=options["dtype"]).expand(*size)

    expected = ExpectedAttentionPress(n_sink=0)
    with torch.no_grad():
        mean, covariance = expected.get_query_statistics(module, x)
        with mock.patch("torch.randn", plain_randn):
            leverage = score(LeverageScorePress(sketch_dimension=D))
    presses = {
        "streaming": score(StreamingLLMPress(compression_ratio=0.5, n_sink=SINKS)),
        "tova": score(TOVAPress()),
        "snapkv": score(SnapKVPress(window_size=WINDOW, kernel_size=5)),
        "expected-attention": score(expected),
        "leverage": leverage,
        "lagkv": score(LagKVPress(n_sink=SINKS, lag_size=WINDOW)),
        "curdkv": score(CURPress(num_sinks=SINKS)),
        "keydiff-cache": score(KeyDiffPress()),
        "knorm": score(KnormPress()),
        # No press has H2O's sum: that of the press is a mean, made a sum again.
        "h2o": score(ObservedAttentionPress()) * torch.arange(T, 0, -1),
        "cur": score(CURPress(num_sinks=0, use_local_approximation=False)),
    }
    def digits(tensor):
        return [float(f"{number:.6g}") for number in tensor.detach().double().flatten().tolist()]

    def rows(tensor):  # [T, numKvHeads, headDim]
        return digits(tensor[0].transpose(0, 1))

    return {
        "numHeads": num_heads, "numKvHeads": num_kv_heads,
        "keys": rows(keys), "rawKeys": rows(raw), "values": rows(values),
        "attention": digits(attention[0].mean(0)[torch.tril(torch.ones(T, T)) > 0]),
        "mean": digits(mean[0]), "covariance": digits(covariance[0]),
        # A press keeps the half that scores highest, head by head.
        "presses": {
            name: {"scores": digits(own), "kept": own.topk(T // 2, dim=-1).indices.sort(-1).values.tolist()}
            for name, own in presses.items()
        },
    }


def draw(seed, index):
    rng = random.Random(f"{seed}/{index}")
    kv_heads = rng.choice([1, 2, 3])
    return case(rng.randrange(2**31), kv_heads * rng.choice([1, 2, 4]), kv_heads)


if __name__ == "__main__":
    drawn = sys.argv[1:]
    cases = [draw(drawn[0], i) for i in range(int(drawn[1]))] if drawn else [case(1, 2, 1), case(2, 4, 2)]
    golden = json.dumps({
        "versions": {"kvpress": "0.5.5", "torch": torch.__version__, "transformers": transformers.__version__},
        "T": T, "headDim": D, "sinks": SINKS, "window": WINDOW, "cases": cases,
    })
    if drawn:
        with open(f"{drawn[2]}/cases.json", "w") as file:
            file.write(golden)
    else:
        print(golden)
