"""What rules of the key side cost, tried in torch and apart from the product: the whole model, all layers filtered.

usage: python screen.py MODEL.gguf TEXT [--tokens 4096] [--skip 0] [--context 512] [--ratio 0.75] RULE…

Needs torch, transformers and gguf (tried with torch 2.15.0, transformers 5.2.0). A RULE is a name of SCORES, with any of
+heads (each KV head drops its own keys), +again (at every block all live keys are judged again), +fading (older attention
fades by 0.85 a block). Chunks stand side by side; judgement and the policy `budget` are those of docs/method.md, with
recent 32, warm-up 64, blocks of 32 and a window of 256 scores. Prints the loss above dense with its standard error over
blocks of 64 tokens. It says what is worth building; what a rule costs, measure.ts says.
"""
import argparse
import os
import time

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

RECENT, WARMUP, BLOCK, WINDOW, LEAST_OTHERS = 32, 64, 32, 256, 0.02
torch.set_grad_enabled(False)


class Layer:
    """Keys, values and what queries gave to each key so far, of [chunks, KV heads or 1] at once."""

    def __init__(self, keys, values, projection, heads, per_head):
        self.keys, self.values = keys, values
        chunks, kv_heads, self.count, dim = keys.shape
        self.parts = kv_heads if per_head else 1
        self.repeat = lambda x: x.repeat_interleave(heads // x.shape[1], 1)  # one of a KV head for each of its heads
        self.all_keys, self.all_values = self.repeat(keys), self.repeat(values)
        by_head = projection.view(-1, heads, dim)
        identity = torch.eye(dim)
        self.metrics = {
            "plain": identity.expand(heads, dim, dim),
            "weighed": identity * (by_head.pow(2).sum((0, 2)) / dim)[:, None, None],
            "projected": torch.einsum("ohd,ohe->hde", by_head, by_head),
        }
        means = values.cumsum(2) / torch.arange(1, self.count + 1)[:, None]
        self.distance = self.fold((values - means).pow(2).sum(-1)).sqrt()
        self.sums = {}
        self.queries = {"near": torch.zeros(self.count), "far": torch.zeros(self.count)}

    def fold(self, x):
        return x if self.parts > 1 else x.sum(1, keepdim=True)

    def by_part(self, x, how):
        """[chunks, heads, queries, keys] per KV head, or over all heads."""
        shape = (x.shape[0], self.parts, -1, *x.shape[2:])
        return getattr(x.reshape(shape), how)(2)

    def observe(self, begin, weights, outputs, metric, fade):
        end = begin + weights.shape[2]
        age = torch.arange(begin, end)[:, None] - torch.arange(end)[None]
        masks = {"near": age > 0, "far": age > RECENT // 2}
        mean = self.by_part(weights, "mean")
        seen = {"share": mean, "square": self.by_part(weights**2, "mean")}
        if metric is not None:
            matrix = self.metrics[metric]
            values = self.all_values[:, :, :end]
            turned = torch.einsum("bhtd,hde->bhte", outputs, matrix)
            squares = torch.einsum("bhtd,hde,bhte->bht", values, matrix, values)
            apart = squares[:, :, None] + (turned * outputs).sum(-1)[..., None] - 2 * turned @ values.mT
            moved = weights / (1 - weights).clamp_min(LEAST_OTHERS)
            seen["change"] = self.by_part(moved**2 * apart.clamp_min(0), "sum")
        for which, mask in masks.items():
            self.queries[which] *= fade
            self.queries[which][:end] += mask.sum(0)
            for name, x in seen.items():
                total = self.sums.setdefault((name, which), torch.zeros(x.shape[0], self.parts, self.count))
                total *= fade
                total[:, :, :end] += (x * mask).sum(2)
        top = self.sums.setdefault(("top", "far"), torch.zeros(mean.shape[0], self.parts, self.count))
        top[:, :, :end] = torch.maximum(top[:, :, :end], (mean * masks["far"]).amax(2))

    def mean(self, name, which):
        return self.sums[name, which] / self.queries[which].clamp_min(1)

    def likeness(self):
        """The rule `key`: similarity to the mean of the keys before, mean over heads."""
        means = torch.zeros_like(self.keys)
        means[:, :, 1:] = self.keys.cumsum(2)[:, :, :-1]
        return torch.cosine_similarity(self.keys, means, dim=-1).mean(1, keepdim=True).expand(-1, self.parts, -1)


# What a key is worth; the lowest go. With the metric in which outputs change, where that is asked for.
SCORES = {
    "key": (lambda own: -own.likeness(), None),
    "received": (lambda own: own.mean("share", "near"), None),
    "missed": (lambda own: own.mean("share", "far") * own.distance, None),
    "missed-largest": (lambda own: own.sums["top", "far"] * own.distance, None),
    "missed-square": (lambda own: own.mean("square", "far").sqrt() * own.distance, None),
    "missed-key": (lambda own: own.mean("share", "far") * own.distance * (1.2 - own.likeness()), None),
    "change-plain": (lambda own: own.mean("change", "far").sqrt(), "plain"),
    "leave-one-out": (lambda own: own.mean("change", "far").sqrt(), "weighed"),
    "change-projected": (lambda own: own.mean("change", "far").sqrt(), "projected"),
    "change-near": (lambda own: own.mean("change", "near").sqrt(), "projected"),
}


class Budget:
    """The policy `budget` on many sequences of scores at once."""

    def __init__(self, count, ratio):
        self.ratio, self.windows = ratio, [[] for _ in range(count)]
        self.decided, self.dropped = np.zeros(count), np.zeros(count)

    def decide(self, token, scores):
        drop = np.zeros(len(scores), bool)
        for i, score in enumerate(scores):
            window = self.windows[i]
            if token >= WARMUP:
                owed = self.ratio * self.decided[i] - self.dropped[i]
                aim = min(1, max(0, self.ratio + owed / 16))
                if window and aim > 0:
                    rank = max(0, int(np.ceil((1 - aim) * len(window))) - 1)
                    drop[i] = aim == 1 or score > np.sort(window)[rank]
                self.decided[i] += 1
                self.dropped[i] += drop[i]
            window.append(score)
            del window[:-WINDOW]
        return drop


def attend(queries, layer, rule, ratio):
    """A layer's outputs for [chunks, heads, tokens, dim] queries, and the share of its rows that stay."""
    (score, metric), (_, *ways) = SCORES[rule.split("+")[0]], rule.split("+")
    chunks, heads, count, dim = queries.shape
    alive = torch.ones(chunks, layer.parts, count, dtype=torch.bool)
    policy, judged, outputs = Budget(chunks * layer.parts, ratio), 0, torch.zeros_like(queries)
    for begin in range(0, count, BLOCK):
        end = min(begin + BLOCK, count)
        due = begin - RECENT
        if begin >= WARMUP and due > 0:
            worth = score(layer)
            if "again" in ways and due > WARMUP:
                rest = worth[:, :, WARMUP:due].masked_fill(~alive[:, :, WARMUP:due], -torch.inf)
                gone = rest.topk(round(ratio * (due - WARMUP)), dim=-1, largest=False).indices + WARMUP
                alive.scatter_(-1, gone, False)
            while "again" not in ways and judged < due:
                drop = policy.decide(judged, -worth[:, :, judged].reshape(-1).numpy())
                alive[:, :, judged] &= ~torch.from_numpy(drop).view(chunks, layer.parts)
                judged += 1
        scores = queries[:, :, begin:end] @ layer.all_keys[:, :, :end].mT * dim**-0.5
        seen = torch.ones(end - begin, end, dtype=torch.bool).tril(begin) & layer.repeat(alive)[:, :, None, :end]
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        outputs[:, :, begin:end] = weights @ layer.all_values[:, :, :end]
        layer.observe(begin, weights, outputs[:, :, begin:end], metric, 0.85 if "fading" in ways else 1)
    return outputs, alive.float().mean().item()


def losses(model, ids, rule, ratio):
    """Losses of [chunks, tokens - 1], and the mean share of rows that stay."""
    config, held = model.config, []
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    dim, (chunks, count) = config.hidden_size // heads, ids.shape
    cos, sin = model.model.rotary_emb(torch.zeros(1), torch.arange(count)[None])
    turn = lambda x: x * cos + torch.cat((-x[..., dim // 2 :], x[..., : dim // 2]), -1) * sin
    split = lambda x, n: x.view(chunks, count, n, dim).transpose(1, 2)
    x = model.model.embed_tokens(ids)
    for block in model.model.layers:
        own, normed = block.self_attn, block.input_layernorm(x)
        queries, keys = (turn(split(p(normed), n)) for p, n in ((own.q_proj, heads), (own.k_proj, kv_heads)))
        values = split(own.v_proj(normed), kv_heads)
        if rule is None:
            more = lambda x: x.repeat_interleave(heads // kv_heads, 1)
            out = torch.nn.functional.scaled_dot_product_attention(queries, more(keys), more(values), is_causal=True)
        else:
            layer = Layer(keys, values, own.o_proj.weight, heads, "+heads" in rule)
            out, share = attend(queries, layer, rule, ratio)
            held.append(share)
        x = x + own.o_proj(out.transpose(1, 2).reshape(chunks, count, heads * dim))
        x = x + block.mlp(block.post_attention_layernorm(x))
    rows = [model.lm_head(model.model.norm(own)).log_softmax(-1)[:-1] for own in x]
    found = [-row.gather(-1, targets[1:, None])[:, 0] for row, targets in zip(rows, ids)]
    return torch.stack(found).numpy(), np.mean(held) if held else 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("rules", nargs="+")
    for name, value in (("tokens", 4096), ("skip", 0), ("context", 512), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--ratio", type=float, default=0.75)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    folder, file = os.path.split(os.path.abspath(asked.model))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    with open(asked.text, encoding="utf-8") as text:
        text = text.read((asked.skip + asked.tokens) * 8)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][asked.skip : asked.skip + asked.tokens]
    ids = torch.tensor(ids[: len(ids) // asked.context * asked.context]).view(-1, asked.context)
    dense, _ = losses(model, ids, None, 0)
    print(f"dense {dense.mean():.4f} in {len(ids)} chunks of {asked.context}", flush=True)
    for rule in asked.rules:
        began = time.time()
        own, held = losses(model, ids, rule, asked.ratio)
        above = (own - dense).reshape(-1)
        blocks = above[: above.size // 64 * 64].reshape(-1, 64).mean(1)
        error = blocks.std(ddof=1) / len(blocks) ** 0.5
        print(f"{rule:24s} +{above.mean():.4f} (se {error:.4f}), rows held {held:.3f}, {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
