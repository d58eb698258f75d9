"""Scores texts with a Llama and Token Filtering in numpy: a check of the toolkit from outside, short and slow.

usage: python3 numpy_llama.py MODEL.gguf IDS.json OPTIONS.json OUT.json     (needs numpy 2.4.6 and gguf 0.19.0)

IDS.json holds lists of token ids, each a sequence of its own; OPTIONS.json the method's options by the toolkit's names,
`preset` too, or null: dense; or a list of them, one for each sequence. `retrieval` are the scores of layers, or of KV heads
one after the other, that `whole` goes by. OUT.json is written anew after every sequence: a list of {ids, nll (nats), keep, layers,
kvKeep, kvLayers}, masks as `deno task score --json` gives them, a row for each filtered layer. The decisions and the attention are those of `recurrence.py`.
"""
import json
import math
import sys

import numpy as np
from recurrence import read_options, run_layer


def plan(schedule, ratio, tail, slope, skip_ratios, layers, warm=None):
    """rho of each layer, None where it is not filtered. warm: mean and deviation of y of the filtered layers."""
    if skip_ratios:
        return [r or None for r in skip_ratios]
    filtered = math.ceil(tail * layers - 1e-9)
    mean = ratio * layers / filtered
    rhos = [mean] * filtered
    if schedule == "ramp" and filtered > 1:
        rhos = [mean * (1 + slope * (2 * i / (filtered - 1) - 1)) for i in range(filtered)]
    if schedule == "allocated" and warm:
        shares = lambda theta: [min(0.97, math.erfc((m - theta) / sd / math.sqrt(2)) / 2) for m, sd in warm]
        low, high = -1e3, 1e3
        for _ in range(200):
            theta = (low + high) / 2
            low, high = (theta, high) if sum(shares(theta)) < mean * filtered else (low, theta)
        rhos = shares(high)
    if max(rhos) > 1:
        sys.exit(f"Cannot skip {max(rhos):.2f} of a layer: expected a larger tail")
    return [None] * (layers - filtered) + rhos


def find_whole(o, scores, layers, kv_heads):
    """KV heads that keep every key, a set for each layer: of listed layers, or those that scores [layers][...] name."""
    if not isinstance(o.whole, str):
        return [set(range(kv_heads)) if n in o.whole else set() for n in range(layers)]
    if o.whole == "none":
        return [set() for _ in range(layers)]
    flat = np.array(scores, np.float64).reshape(layers, -1)
    order = np.argsort(-flat.ravel(), kind="stable")
    sums = np.cumsum(flat.ravel()[order])
    count = int(np.searchsorted(sums, o.wholeFraction * sums[-1] * (1 - 1e-9))) + 1
    count = min(count, math.floor(flat.size * (1 - o.kvRatio) + 1e-9))
    chosen = np.zeros(flat.size, bool)
    chosen[order[:count]] = True
    by_head = np.broadcast_to(chosen.reshape(flat.shape), (layers, kv_heads))
    return [set(np.flatnonzero(row).tolist()) for row in by_head]


class Llama:
    """Weights of a GGUF file of architecture llama, dequantised to float32; its rotary pairs lie side by side."""

    def __init__(self, path):
        import gguf
        reader = gguf.GGUFReader(path)
        get = lambda key: reader.fields["llama." + key].contents()
        self.layers, self.heads, self.eps = get("block_count"), get("attention.head_count"), get(
            "attention.layer_norm_rms_epsilon")
        self.w = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
        self.head_dim = len(self.w["blk.0.attn_q.weight"]) // self.heads
        self.theta = get("rope.freq_base")
        self.kv_heads = len(self.w["blk.0.attn_k.weight"]) // self.head_dim

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name + ".weight"]

    def rope(self, x):
        """Turns the pairs (2i, 2i + 1) of x [T, heads, d] by t * theta^(-2i / d)."""
        T, _, d = x.shape
        angle = np.arange(T)[:, None, None] * self.theta ** (-np.arange(0, d, 2) / d)
        cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)

    def run(self, ids, o, rhos, kv_rhos, chunk, whole=None):
        """Hidden states before the last norm [T, hidden], and what each layer decided."""
        x, found = self.w["token_embd.weight"][ids], []
        for layer in range(self.layers):
            linear = lambda a, name: a @ self.w[f"blk.{layer}.{name}.weight"].T
            h = self.norm(x, f"blk.{layer}.attn_norm")
            q, k, v = (linear(h, "attn_" + kind).reshape(len(x), -1, self.head_dim) for kind in "qkv")
            found.append(run_layer(
                o, layer, rhos[layer], kv_rhos[layer], self.rope(k), v, chunk, k if o.keyState == "pre-rope" else None,
                self.rope(q), x, h, self.w[f"blk.{layer}.attn_output.weight"].T,
                whole=sorted(whole[layer]) if whole else ()))
            x = x + found[-1].out
            h = self.norm(x, f"blk.{layer}.ffn_norm")
            gate = linear(h, "ffn_gate")
            x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, "ffn_up"), "ffn_down")
        return x, found

    def score(self, ids, given, chunk=0):
        """nll [T - 1] in nats, and the masks of the filtered layers."""
        given = None if given is None else dict(given)
        scores = given.pop("retrieval", None) if given else None
        o, none, warm, whole = read_options(given or {}), [None] * self.layers, None, None
        rhos = kv_rhos = none
        if given is not None:
            plan_of = lambda *of: plan(*of, o.slope, o.skipRatios, self.layers, warm)
            if o.schedule == "allocated" and len(ids) > o.warmup:
                _, found = self.run(ids[:o.warmup], o, none, none, chunk)
                warm = [(one.y.mean(), one.y.std() + 0.05) for one in found[-math.ceil(o.tail * self.layers - 1e-9):]]
            if o.pruneRatio > 0 or o.skipRatios:
                rhos = plan_of(o.schedule, o.pruneRatio, o.tail)
            warm = None
            if o.kvFusion not in ("same", "none"):
                whole = find_whole(o, scores, self.layers, self.kv_heads)
                free = self.layers * self.kv_heads - sum(map(len, whole))
                kv_rhos = plan_of(o.schedule, o.kvRatio, o.kvTail) if free == self.layers * self.kv_heads else [
                    None if len(own) == self.kv_heads else o.kvRatio * self.layers * self.kv_heads / free for own in whole]
        x, found = self.run(ids, o, rhos, kv_rhos, chunk, whole)
        z = self.norm(x[:-1], "output_norm") @ self.w.get("output.weight", self.w["token_embd.weight"]).T
        z = z.astype(np.float64)
        top = z.max(-1, keepdims=True)
        nll = (top + np.log(np.exp(z - top).sum(-1, keepdims=True)))[:, 0] - z[np.arange(len(z)), ids[1:]]
        layers = {side: [n for n, rho in enumerate(of) if rho is not None]
                  for side, of in (("keep", rhos), ("kvKeep", kv_rhos))}
        masks = {side: [getattr(found[n], side).astype(int).tolist() for n in of] for side, of in layers.items()}
        margin = min(1e9, *(one.margin for one in found))
        return nll, {**masks, "layers": layers["keep"], "kvLayers": layers["kvKeep"], "margin": float(margin)}


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    path, ids_path, options_path, out = sys.argv[1:]
    model, sequences, given, results = Llama(path), json.load(open(ids_path)), json.load(open(options_path)), []
    for chunk, ids in enumerate(sequences):
        own = given[chunk] if isinstance(given, list) else given
        nll, masks = model.score(np.array(ids), own, chunk)
        results.append({"ids": ids, "nll": nll.tolist(), **masks})
        with open(out, "w") as file:
            json.dump(results, file)


if __name__ == "__main__":
    main()
