"""Scores a text with a Llama and Token Filtering in numpy: a check of the toolkit from outside, short and slow.

usage: python3 numpy_llama.py MODEL.gguf --ids FILE.json [--fusion RULE|oracle|dense] [--ratio 0.5] [--tail 0.75]
                              [--recent 16] [--warmup 32] [--seed 0] [--invert] [--float64]
       (needs numpy and the Python package gguf)

FILE.json holds one list of token ids, or several ({"sequences": [[…], …]} or [[…], …]), each a sequence of its own.
Prints JSON: a list of {ids, nll, perplexity, keep, layers}, one a sequence, as `deno task score --json` does: nll[i]
is the loss of ids[i+1] in nats, keep[f][t] is 1 where filtered layer layers[f] computed the attention of token t.

Attention is computed in full and masked, so nothing is saved here: only the result is that of a filtered run. The
decisions come from lib/filter/testdata/make_golden.py, which was written from the method's text alone.
"""
import argparse
import json
import math
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../lib/filter/testdata"))
import make_golden as golden  # noqa: E402


class Llama:
    """Weights of a GGUF file of architecture llama, dequantised; its rotary pairs lie side by side."""

    def __init__(self, path, dtype):
        import gguf
        reader = gguf.GGUFReader(path)
        get = lambda key, default=None: reader.fields[key].contents() if key in reader.fields else default
        self.layers = get("llama.block_count")
        self.heads = get("llama.attention.head_count")
        self.kv_heads = get("llama.attention.head_count_kv", self.heads)
        self.eps = get("llama.attention.layer_norm_rms_epsilon")
        self.theta = get("llama.rope.freq_base", 10000.0)
        self.w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(dtype) for t in reader.tensors}
        self.hidden = self.w["token_embd.weight"].shape[1]
        self.head_dim = self.hidden // self.heads
        self.dtype = dtype

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name + ".weight"]

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T

    def rope(self, x):
        """Turns the pairs (2i, 2i + 1) of x [T, heads, head_dim] by t * theta^(-2i / head_dim)."""
        T, _, d = x.shape
        angle = np.arange(T)[:, None, None] * self.theta ** (-np.arange(0, d, 2) / d)
        cos, sin = np.cos(angle).astype(self.dtype), np.sin(angle).astype(self.dtype)
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def masked_attention(q, k, v, visible):
    """q [R, heads, d], k and v [T, kv_heads, d], visible [R, T] -> [R, heads * d]."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(group, 1).transpose(1, 2, 0), v.repeat(group, 1).transpose(1, 0, 2)
    s = np.where(visible, q.transpose(1, 0, 2) @ k / math.sqrt(q.shape[2]), -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    return ((p / p.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(len(q), -1)


def run(model, ids, fusion="dense", ratio=0.5, tail=0.75, recent=16, warmup=32, seed=0, invert=False):
    """nll [T - 1], keep {layer: [T]}, log-probabilities [T, vocab]."""
    T, H, d = len(ids), model.kv_heads, model.head_dim
    filtered = math.ceil(tail * model.layers) if fusion != "dense" else 0
    rho = ratio * model.layers / filtered if filtered else 0
    if rho > 1:
        sys.exit(f"Cannot skip {ratio} in {filtered} of {model.layers} layers: expected a larger tail")
    now = np.arange(T)
    row_norm = lambda x: np.sqrt((x.astype(np.float64) ** 2).sum(-1))
    keep_of, x = {}, model.w["token_embd.weight"][ids]
    for layer in range(model.layers):
        name = f"blk.{layer}."
        h = model.norm(x, name + "attn_norm")
        project = lambda kind, heads: model.linear(h, f"{name}attn_{kind}").reshape(T, heads, d)
        q, k, v = model.rope(project("q", model.heads)), model.rope(project("k", H)), project("v", H)
        keep = np.ones(T, bool)

        def outputs(rows):
            """The attention block's output for these tokens, given what has been decided up to them."""
            i, j = rows[:, None], now[None]
            visible = (j <= i) & (keep[j] | (i - j <= recent))
            return model.linear(masked_attention(q[rows], k, v, visible), name + "attn_output")

        def observe(start, end, decided):
            keep[start:end] = decided[start:end]
            rows = now[start:end]
            return np.log((row_norm(outputs(rows)) + 1e-6) / (row_norm(x[rows]) + 1e-6))

        if layer >= model.layers - filtered:
            if fusion == "oracle":
                r = row_norm(outputs(now)) / row_norm(x)
                able = range(max(warmup, 1), T)
                count = min(len(able), int(math.floor(rho * max(T - warmup, 0) + 0.5)))
                keep[sorted(able, key=lambda t: (r[t], t))[:count]] = False
            else:
                o = {**golden.DEFAULTS, "fusion": fusion, "skipRatio": rho, "warmup": warmup, "layer": layer,
                     "seed": str(seed), "invert": invert}
                data = dict(keys=k.astype(np.float32), values=v.astype(np.float32), residual=x, normed=h,
                            queries=q.reshape(T, -1), observe=observe)
                keep[:] = np.array(golden.decide(o, data)["keep"], bool)
            keep_of[layer] = keep.astype(int).tolist()
        rows = now[keep]
        x = x.copy()
        x[rows] += outputs(rows)
        h = model.norm(x, name + "ffn_norm")
        gate, up = model.linear(h, name + "ffn_gate"), model.linear(h, name + "ffn_up")
        x = x + model.linear(gate / (1 + np.exp(-gate)) * up, name + "ffn_down")
    head = model.w.get("output.weight", model.w["token_embd.weight"])
    logits = (model.norm(x, "output_norm") @ head.T).astype(np.float64)
    top = logits.max(-1, keepdims=True)
    logp = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return -logp[now[:-1], np.array(ids[1:])], keep_of, logp


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("model")
    a.add_argument("--ids", required=True)
    a.add_argument("--fusion", default="dense")
    for flag, value in dict(ratio=0.5, tail=0.75, recent=16, warmup=32, seed=0).items():
        a.add_argument("--" + flag, type=type(value), default=value)
    a.add_argument("--invert", action="store_true")
    a.add_argument("--float64", action="store_true")
    a = a.parse_args()
    sequences = json.load(open(a.ids))
    sequences = sequences["sequences"] if isinstance(sequences, dict) else sequences
    if isinstance(sequences[0], int):
        sequences = [sequences]
    model, results = Llama(a.model, np.float64 if a.float64 else np.float32), []
    for ids in sequences:
        nll, keep, _ = run(model, ids, a.fusion, a.ratio, a.tail, a.recent, a.warmup, a.seed, a.invert)
        results.append(dict(ids=ids, nll=[round(float(v), 7) for v in nll], perplexity=math.exp(nll.mean()),
                            keep=list(keep.values()), layers=list(keep)))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
