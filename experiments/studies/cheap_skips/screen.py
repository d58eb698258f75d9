"""What rules of the key side cost, tried in torch and apart from the product: the whole model, all layers filtered.

usage: python screen.py MODEL.gguf TEXT [--tokens 4096] [--skip 0] [--context 512] [--ratio 0.75] [--recent 32]
           [--warmup 64] RULE…

Needs torch, transformers and gguf (tried with torch 2.15.0, transformers 5.2.0). A RULE is a name of SCORES,
with any of +heads (each KV head drops its own keys), +pooled (likewise, with one quota for all heads of a
layer), +again (at every block all live keys are judged again), +lateN (half of the quota at the first
judgement, the rest once tokens are N old), +fading0.9 (older attention fades by that a block), +allocated
(ratios of layers from the warm-up), +protect0.1 (that share of the keys, those of largest value norm so far,
goes last), +merge (a value that goes is merged into that of the most similar key that stays, head by head, as
the rule `keydiff-merge` does), +fuse0.9 (key and value become the mean of all keys merged so, of cosine 0.9
and more, and the ln of their number is added to the logit), +rest (one more row a KV head, the mean of all
keys and of all values that went, with ln of their number added to the logit). `learned` is learned_keys.py,
with +horizonN and +forget0.9. Chunks stand side by side; judgement and the policy `budget` are those of
docs/reference/spec.md, with blocks of 32 and a window of 256 scores. Prints the loss increase with its standard
error over blocks of 64 tokens, and the same less the first rule's. It says what is worth building; what a
rule costs, measure.ts says.
"""
import argparse
import os
import time
from bisect import bisect_left, insort
from collections import deque

import numpy as np
import torch
from learned_keys import LearnedKeys
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
        self.merged = torch.ones(chunks, kv_heads, self.count)  # keys that a row stands for
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

    def observe(self, begin, first, weights, outputs, wanted, metric, fade):
        """Takes in what the queries from `begin` on gave to the keys from `first` on."""
        end = begin + weights.shape[2]
        weights = weights[..., first:]
        age = torch.arange(begin, end)[:, None] - torch.arange(first, end)[None]
        masks = {"near": age > 0, "far": age > RECENT // 2}
        mean = self.by_part(weights, "mean")
        seen = {}
        if "share" in wanted:
            seen["share"] = mean
        if "square" in wanted:
            seen["square"] = self.by_part(weights**2, "mean")
        if metric is not None:
            matrix = self.metrics[metric]
            values = self.all_values[:, :, first:end]
            turned = torch.einsum("bhtd,hde->bhte", outputs, matrix)
            squares = torch.einsum("bhtd,hde,bhte->bht", values, matrix, values)
            apart = squares[:, :, None] + (turned * outputs).sum(-1)[..., None] - 2 * turned @ values.mT
            moved = weights / (1 - weights).clamp_min(LEAST_OTHERS)
            seen["change"] = self.by_part(moved**2 * apart.clamp_min(0), "sum")
        for which, mask in masks.items():
            self.queries[which] *= fade
            self.queries[which][first:end] += mask.sum(0)
            for name, x in seen.items():
                total = self.sums.setdefault((name, which), torch.zeros(x.shape[0], self.parts, self.count))
                if fade != 1:
                    total *= fade
                total[:, :, first:end] += (x * mask).sum(2)
        if "top" in wanted:
            top = self.sums.setdefault(("top", "far"), torch.zeros(mean.shape[0], self.parts, self.count))
            top[:, :, first:end] = torch.maximum(top[:, :, first:end], (mean * masks["far"]).amax(2))

    def mean(self, name, which):
        return self.sums[name, which] / self.queries[which].clamp_min(1)

    def likeness(self):
        """The rule `key`: similarity to the mean of the keys before, mean over heads."""
        means = torch.zeros_like(self.keys)
        means[:, :, 1:] = self.keys.cumsum(2)[:, :, :-1]
        return self.fold(torch.cosine_similarity(self.keys, means, dim=-1))

    def merge(self, gone, alive, least):
        """Values of keys that go (`gone`, [chunks, parts, tokens so far]) go into those of the likest keys that
        stay; where there is a `least` cosine, keys too."""
        end, kv_heads = gone.shape[2], self.keys.shape[1]
        for chunk in range(len(gone)):
            for head in range(kv_heads):
                part = head if self.parts > 1 else 0
                go = gone[chunk, part].nonzero()[:, 0]
                stay = alive[chunk, part, :end].nonzero()[:, 0]
                keys, values, number = self.keys[chunk, head], self.values[chunk, head], self.merged[chunk, head]
                unit = torch.nn.functional.normalize(keys[:end], dim=-1)
                cosine, to = (unit[go] @ unit[stay].T).max(1)
                to = stay[to]
                if least is not None:
                    likest = cosine >= least
                    for source, target in zip(go[likest], to[likest]):
                        all_ = number[source] + number[target]
                        for rows in (keys, values):
                            rows[target] = (rows[source] * number[source] + rows[target] * number[target]) / all_
                        number[target] = all_
                else:
                    own, other = values[go].norm(dim=-1), values[to].norm(dim=-1)
                    weight = cosine.clamp_min(0) * own / (own + other + 1e-6)
                    sums = torch.zeros_like(values).index_add_(0, to, weight[:, None] * values[go])
                    values.copy_((values + sums) / (1 + torch.zeros(len(values)).index_add_(0, to, weight))[:, None])
        self.all_keys, self.all_values = self.repeat(self.keys), self.repeat(self.values)

    def rest(self, gone):
        """The mean of the keys and of the values that went, for each head, and how many they are."""
        gone = gone.expand(-1, self.keys.shape[1], -1).float()
        number = gone.sum(-1)
        mean = lambda rows: self.repeat((gone[..., None] * rows).sum(2, keepdim=True) / number.clamp_min(1)[..., None, None])
        return mean(self.keys), mean(self.values), self.repeat(number[..., None])


# What a key is worth (the lowest go), what it is told by, and the metric in which outputs change, where that is asked for.
SCORES = {
    "random": (lambda own: torch.rand(own.keys.shape[0], own.parts, own.count), "", None),
    "key": (lambda own: -own.likeness(), "", None),
    "received": (lambda own: own.mean("share", "near"), "share", None),
    "missed": (lambda own: own.mean("share", "far") * own.distance, "share", None),
    "missed-largest": (lambda own: own.sums["top", "far"] * own.distance, "top", None),
    "missed-square": (lambda own: own.mean("square", "far").sqrt() * own.distance, "square", None),
    "missed-key": (lambda own: own.mean("share", "far") * own.distance * (1.2 - own.likeness()), "share", None),
    "change-plain": (lambda own: own.mean("change", "far").sqrt(), "", "plain"),
    "leave-one-out": (lambda own: own.mean("change", "far").sqrt(), "", "weighed"),
    "learned": (None, "share", "weighed"),
    "change-projected": (lambda own: own.mean("change", "far").sqrt(), "", "projected"),
    "change-near": (lambda own: own.mean("change", "near").sqrt(), "", "projected"),
}


class Budget:
    """The policy `budget` on many sequences of scores at once; those of `per` scores a token share a quota."""

    def __init__(self, count, ratio, per=1):
        self.ratios, self.per = ratio, per
        self.windows, self.sorted = [deque() for _ in range(count)], [[] for _ in range(count)]
        self.decided, self.dropped = [0] * count, [0] * count

    def decide(self, token, scores):
        drop = np.zeros(len(scores), bool)
        for which, score in enumerate(scores.tolist()):
            i = which // self.per
            window, ordered = self.windows[i], self.sorted[i]
            if token >= WARMUP:
                owed = self.ratios[i] * self.decided[i] - self.dropped[i]
                aim = min(1, max(0, self.ratios[i] + owed / 16))
                if window and aim > 0:
                    rank = max(0, int(np.ceil((1 - aim) * len(window))) - 1)
                    drop[which] = aim == 1 or score > ordered[rank]
                self.decided[i] += 1
                self.dropped[i] += int(drop[which])
            window.append(score)
            insort(ordered, score)
            if len(window) > WINDOW * self.per:
                del ordered[bisect_left(ordered, window.popleft())]
        return drop


def attend(queries, layer, rule, ratio):
    """A layer's outputs for [chunks, heads, tokens, dim] queries, and the share of its rows that stay."""
    (score, wanted, metric), (_, *ways) = SCORES[rule.split("+")[0]], rule.split("+")
    chunks, heads, count, dim = queries.shape
    alive = torch.ones(chunks, layer.parts, count, dtype=torch.bool)
    pooled, again = "pooled" in ways, "again" in ways
    late = next((int(way[4:]) for way in ways if way.startswith("late")), None)
    first_ratio = ratio / 2 if late else ratio
    first_ratio = [first_ratio] * chunks if isinstance(ratio, float) or ratio == 0 else ratio
    first_ratio = [one for one in first_ratio for _ in range(1 if pooled else layer.parts)]
    policy = Budget(chunks if pooled else chunks * layer.parts, first_ratio, layer.parts if pooled else 1)
    number_of = lambda name, otherwise: next((float(w[len(name) :]) for w in ways if w.startswith(name)), otherwise)
    fade, protect, fuse = number_of("fading", 1), number_of("protect", 0), number_of("fuse", None)
    learned = LearnedKeys(layer, number_of("horizon", 64), number_of("forget", 1)) if score is None else None
    norms = layer.fold(layer.values.pow(2).sum(-1))
    judged, outputs = 0, torch.zeros_like(queries)

    def cull(to, share, worth):
        """Of tokens [WARMUP, to) the lowest go until the share of them has gone."""
        live = alive[:, :, WARMUP:to]
        rest = worth[:, :, WARMUP:to].masked_fill(~live, -torch.inf)
        rest = rest.reshape(chunks, 1 if pooled else layer.parts, -1)
        gone = rest.topk(round(share * rest.shape[-1]), dim=-1, largest=False).indices
        alive[:, :, WARMUP:to] = torch.ones_like(rest, dtype=torch.bool).scatter_(-1, gone, False).view_as(live)

    for begin in range(0, count, BLOCK):
        end = min(begin + BLOCK, count)
        due = begin - RECENT
        if begin >= WARMUP and due > 0:
            worth = learned.worth(begin, judged, due, alive) if learned else score(layer)
            if protect:
                large = norms[:, :, :begin].quantile(1 - protect, dim=-1, keepdim=True)
                worth = worth + 1e6 * (norms > large)
            if again:
                if due > WARMUP:
                    cull(due, ratio, worth)
                judged = due
            elif due > judged:
                drops = [policy.decide(t, -worth[:, :, t].reshape(-1).numpy()) for t in range(judged, due)]
                kept = torch.from_numpy(~np.stack(drops, -1)).view(chunks, layer.parts, -1)
                alive[:, :, judged:due] &= kept
                if "merge" in ways or fuse is not None:
                    gone = torch.zeros_like(alive[:, :, :begin])
                    gone[:, :, judged:due] = ~kept
                    layer.merge(gone, alive, fuse)
                judged = due
            if late and begin - late > WARMUP:
                cull(begin - late, ratio, worth)
        scores = queries[:, :, begin:end] @ layer.all_keys[:, :, :end].mT * dim**-0.5
        seen = torch.ones(end - begin, end, dtype=torch.bool).tril(begin) & layer.repeat(alive)[:, :, None, :end]
        scores.masked_fill_(~seen, -torch.inf)
        values = layer.all_values[:, :, :end]
        if fuse is not None:
            scores += layer.repeat(layer.merged)[:, :, None, :end].log()
        if "rest" in ways:
            key, value, number = layer.rest(~alive)
            own = queries[:, :, begin:end] @ key.mT * dim**-0.5 + number[:, :, None].log()
            scores, values = torch.cat((scores, own), -1), torch.cat((values, value), 2)
        weights = scores.softmax(-1)
        outputs[:, :, begin:end] = weights @ values
        weights = weights[..., :end]
        open_ = 0 if again or late or learned else judged
        layer.observe(begin, open_, weights, outputs[:, :, begin:end], wanted, metric, fade)
    return outputs, alive.float().mean().item()


def allocate(model, ids, rule, ratio):
    """Ratios of the layers, [layers, chunks]: by what the warm-up says of its own keys, as the schedule `allocated`."""
    seen = []
    losses(model, ids[:, :WARMUP], rule.replace("+allocated", ""), 0, seen)
    logs = torch.stack([(worth[:, :, 4:-16] / size + 1e-6).log().flatten(1) for worth, size in seen])
    mean, spread = logs.mean(-1), logs.std(-1) + 0.05
    low, high = torch.full(mean.shape[1:], -50.0), torch.full(mean.shape[1:], 50.0)
    of = lambda theta: torch.special.ndtr((theta - mean) / spread).clamp(0, 0.97)
    for _ in range(60):
        theta = (low + high) / 2
        above = of(theta).mean(0) > ratio
        low, high = torch.where(above, low, theta), torch.where(above, theta, high)
    return of(low)


def losses(model, ids, rule, ratio, seen=None):
    """Losses of [chunks, tokens - 1], and the mean share of rows that stay."""
    config, held = model.config, []
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    dim, (chunks, count) = config.hidden_size // heads, ids.shape
    cos, sin = model.model.rotary_emb(torch.zeros(1), torch.arange(count)[None])
    turn = lambda x: x * cos + torch.cat((-x[..., dim // 2 :], x[..., : dim // 2]), -1) * sin
    split = lambda x, n: x.view(chunks, count, n, dim).transpose(1, 2)
    x = model.model.embed_tokens(ids)
    ratios = allocate(model, ids, rule, ratio) if rule and "+allocated" in rule else None
    for number, block in enumerate(model.model.layers):
        own, normed = block.self_attn, block.input_layernorm(x)
        queries, keys = (turn(split(p(normed), n)) for p, n in ((own.q_proj, heads), (own.k_proj, kv_heads)))
        values = split(own.v_proj(normed), kv_heads)
        if rule is None:
            more = lambda x: x.repeat_interleave(heads // kv_heads, 1)
            out = torch.nn.functional.scaled_dot_product_attention(queries, more(keys), more(values), is_causal=True)
        else:
            layer = Layer(keys, values, own.o_proj.weight, heads, "+heads" in rule or "+pooled" in rule)
            out, share = attend(queries, layer, rule, ratio if ratios is None else ratios[number].tolist())
            held.append(share)
            if seen is not None:  # so early no query is far
                layer.queries["far"] = layer.queries["near"]
                layer.sums = {(name, "far"): sums for (name, which), sums in layer.sums.items() if which == "near"}
                seen.append((SCORES[rule.split("+")[0]][0](layer), x.norm(dim=-1).mean()))
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
    for name, value in (("tokens", 4096), ("skip", 0), ("context", 512), ("threads", 1), ("recent", 32), ("warmup", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--ratio", type=float, default=0.75)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    global RECENT, WARMUP
    RECENT, WARMUP = asked.recent, asked.warmup
    folder, file = os.path.split(os.path.abspath(asked.model))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    with open(asked.text, encoding="utf-8") as text:
        text = text.read((asked.skip + asked.tokens) * 8)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][asked.skip : asked.skip + asked.tokens]
    ids = torch.tensor(ids[: len(ids) // asked.context * asked.context]).view(-1, asked.context)
    dense, _ = losses(model, ids, None, 0)
    print(f"dense {dense.mean():.4f} in {len(ids)} chunks of {asked.context}", flush=True)
    first = None
    for rule in asked.rules:
        began = time.time()
        own, held = losses(model, ids, rule, asked.ratio)
        above = (own - dense).reshape(-1)
        blocks = above[: above.size // 64 * 64].reshape(-1, 64).mean(1)
        error = blocks.std(ddof=1) / len(blocks) ** 0.5
        first = blocks if first is None else first
        less, less_error = (blocks - first).mean(), (blocks - first).std(ddof=1) / len(blocks) ** 0.5
        print(
            f"{rule:24s} +{above.mean():.4f} (se {error:.4f}), less the first {less:+.4f} (se {less_error:.4f}), "
            f"rows held {held:.3f}, {time.time() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
