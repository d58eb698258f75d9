"""One layer of Token Filtering in plain numpy: decisions of both sides, and the outputs of the filtered attention.

A second implementation, written from the method's text by someone who had not read the toolkit's code. Nothing is
saved: attention is computed in full and masked. `make_golden.py` writes with it what the tests compare with,
`numpy_llama.py` scores texts. Needs numpy (2.4.6).

Arrays: keys, values [T, kv heads, d]; queries [T, heads, d]; residual, normed [T, hidden]. A token's `until` is the
first position whose query does not see its key.
"""
import math
from types import SimpleNamespace

import numpy as np

NEVER = 1 << 40
ATTENDED = ("received", "missed")
SIMILARITY = "variance mean static key value min max product random random-protected".split()
DEFAULTS = dict(
    fusion="variance", invert=False, tau=1, lambda_=0, eps=1e-6, alpha=0.5, seed=0, protect=0.1, anchor="ema",
    gamma=0.9, absorb="all", warmup=32, threshold="budget", window=256, theta=0, eta=0.1, recent=16, block=32, ridge=1,
    projections=16, features=None, substitute="none", sinks=4, pruneRatio=0.5, schedule="uniform", slope=0.5, tail=None,
    skipRatios=None, kvFusion="same", kvRatio=None, kvTail=None, keyState="post-rope", whole="none", wholeFraction=0.75)
PRESETS = {
    "paper": dict(recent=0, tail=0.75),
    "keys": dict(pruneRatio=0, kvFusion="variance", kvRatio=0.5, recent=32, warmup=64, kvTail=1),
    "local": dict(fusion="learned", substitute="local", recent=96, warmup=128, schedule="allocated", tail=1,
                  kvFusion="missed"),
}


def read_options(given):
    """The toolkit's options by their names; what is not given has its default."""
    given = {"lambda_" if name == "lambda" else name: x for name, x in given.items()}
    given = {**PRESETS.get(given.pop("preset", None), {}), **given}
    if unknown := set(given) - set(DEFAULTS):
        raise ValueError(f"Cannot use options {sorted(unknown)}: expected some of {', '.join(DEFAULTS)}")
    o = SimpleNamespace(**{**DEFAULTS, **given})
    o.seed = int(o.seed)
    o.kvRatio = o.pruneRatio if o.kvRatio is None else o.kvRatio
    o.kvTail = o.kvTail or o.tail or 1
    o.tail = o.tail or 0.75
    o.features = o.features or ["similarity", "norm", "projection"] + ["local"] * (o.substitute == "local")
    return o


def mix64(x):
    """SplitMix64's finalizer."""
    x &= (1 << 64) - 1
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    x = (x ^ x >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return x ^ x >> 31


def norm(x):
    """Over the last axis, in float64."""
    return np.sqrt(np.square(x, dtype=np.float64).sum(-1))


def cosine(a, b):
    """Over the last axis; 0 where a norm is 0."""
    size = norm(a) * norm(b)
    return (a * b.astype(np.float64)).sum(-1) / np.where(size > 0, size, np.inf)


def moments_of(k, v, anchor_k, anchor_v):
    """[n, kv heads, d] each -> n tuples muK, varK, muV, varV."""
    return [tuple(row) for row in np.stack(
        [f(cosine(x, a), -1) for x, a in ((k, anchor_k), (v, anchor_v)) for f in (np.mean, np.var)], 1).tolist()]


class Anchors:
    def __init__(self, o):
        self.o, self.m, self.kv = o, 0, None

    def absorb(self, *kv):
        """Takes a token in; gives the anchors of keys and of values, in float32."""
        g = 0 if self.m == 0 else self.m / (self.m + 1) if self.o.anchor == "mean" else self.o.gamma
        old = kv if self.kv is None else self.kv
        mix = lambda a, x: g * a.astype(np.float64) + (1 - g) * x.astype(np.float64)
        self.kv = [mix(a, x).astype(np.float32) for a, x in zip(old, kv)]
        self.m += 1
        return self.kv


def fuse(rule, o, t, moments, number, chunk, seed, value_norms):
    """Score of a token by its moments, before `invert`, and the weight of the keys."""
    muK, varK, muV, varV = moments
    if rule.startswith("random"):
        draw = (mix64((seed + chunk) * 0x9E3779B97F4A7C15 + (number << 40) + t) >> 11) / 2**53
        guarded = rule != "random" and value_norms[t] > np.quantile(value_norms[max(0, t - 256):t], 1 - o.protect)
        return draw - guarded, None
    if rule == "variance":
        wK = 1 / (1 + math.exp(min(700, o.tau * (math.log(varK + o.eps) - math.log(varV + o.eps)))))
        s = wK * (muK - o.lambda_ * math.sqrt(varK)) + (1 - wK) * (muV - o.lambda_ * math.sqrt(varV))
        return min(1, max(-1, s)), wK
    return {"mean": ((muK + muV) / 2, 0.5), "static": (o.alpha * muK + (1 - o.alpha) * muV, o.alpha), "key": (muK, 1),
            "value": (muV, 0), "min": (min(muK, muV), None), "max": (max(muK, muV), None),
            "product": (muK * muV, None)}[rule]


def key_scores(o, keys, values, moments, number, chunk):
    """Scores of the key side [T], known when a token comes (None: none), or what weighs the attention it receives."""
    rule, T = o.kvFusion, len(keys)
    k, v = keys.reshape(T, -1).astype(np.float64), values.reshape(T, -1)
    if rule in SIMILARITY:
        own = lambda t: fuse(rule, o, t, moments[t], number, chunk, o.seed + 1_000_003, norm(v))[0]
        return [None] + [own(t) for t in range(1, T)]
    size = norm(k)
    if rule == "keydiff":
        return cosine(k, np.cumsum(k / np.where(size > 0, size, np.inf)[:, None], 0)).tolist()
    if rule == "missed":
        return norm(v - np.cumsum(v, 0, dtype=np.float64) / np.arange(1, T + 1)[:, None]).tolist()
    return {"cur": -size * norm(v), "knorm": size, "received": np.ones(T)}[rule].tolist()


class Threshold:
    """One side of one layer: theta before token n, whose turn comes in order; then what was decided of it."""

    def __init__(self, o, rho):
        self.o, self.rho, self.scores, self.count, self.skipped, self.theta = o, rho, [], 0, 0, None

    def before(self, n):
        """theta, or None: keep."""
        o, r = self.o, self.rho
        if o.threshold == "fixed":
            return o.theta
        if r == 0 or not self.scores:
            return None
        if o.threshold == "robbins-monro":
            if n == max(o.warmup, 2):
                self.theta = np.quantile(self.scores, 1 - r)
                self.sd = max(np.std(self.scores), 1e-3)
            return self.theta
        if o.threshold == "budget":
            r = min(1, max(0, r + (r * self.count - self.skipped) / 16))
        return np.quantile(self.scores[-o.window:], 1 - r) if r > 0 else None

    def decide(self, n, s):
        """(whether token n of score s goes, theta)"""
        theta, counts = self.before(n), n >= max(self.o.warmup, 1)
        above = theta is not None and s is not None and s > theta
        if self.theta is not None:
            self.theta += self.o.eta * self.sd * (above - self.rho)
        if s is not None:
            self.scores.append(s)
        self.count += counts
        self.skipped += counts and above
        return bool(counts and above), theta


def highest(o, scores, rho):
    """For those that look ahead: whether a token is among the highest scores, and the gap at the cut."""
    able = sorted(range(max(o.warmup, 1), len(scores)), key=lambda t: (-scores[t], t))
    count = min(len(able), math.floor(rho * max(len(scores) - o.warmup, 0) + 0.5))
    gap = scores[able[count - 1]] - scores[able[count]] if 0 < count < len(able) else math.inf
    return np.isin(np.arange(len(scores)), able[:count]), gap


class Ridge:
    """Features of the warm-up give the scale."""

    def __init__(self, o, first):
        self.mean, self.sd = first.mean(0), first.std(0) + 1e-3
        self.A, self.b = o.ridge * np.eye(first.shape[1] + 1), np.zeros(first.shape[1] + 1)

    def scale(self, f):
        return np.concatenate([(f - self.mean) / self.sd, np.ones((len(f), 1))], 1)

    def observe(self, f, y):
        z = self.scale(f)
        self.A, self.b = self.A + z.T @ z, self.b + z.T @ y

    def predict(self, f):
        return self.scale(f) @ np.linalg.solve(self.A, self.b)


def attend(q, k, v, seen):
    """q [n, heads, d]; k, v [m, kv heads, d]; seen [n, m] -> outputs [n, heads * d], probabilities [heads, n, m]."""
    n, heads, d = q.shape
    k, v = (np.repeat(x, heads // k.shape[1], axis=1).transpose(1, 0, 2) for x in (k, v))
    logits = q.transpose(1, 0, 2) @ k.transpose(0, 2, 1) * (1 / math.sqrt(d))
    p = np.where(seen, logits, -np.inf)
    p = np.exp(p - p.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return (p @ v).transpose(1, 0, 2).reshape(n, -1), p


def local_mask(o, start, end):
    """[end - start, end]: what the substitute `local` sees."""
    i, j = np.arange(start, end)[:, None], np.arange(end)
    return (j <= i) & ((j < o.sinks) | (i - j <= o.recent))


def local_features(o, q, k):
    """By heads: log-sum-exp of the local logits, ln of the sinks' share, far estimate; ln of the number of far keys."""
    T, heads, d = q.shape
    q, k = q.astype(np.float64), np.repeat(k.astype(np.float64), heads // k.shape[1], axis=1)
    logits = (q.transpose(1, 0, 2) @ k.transpose(1, 2, 0)) / math.sqrt(d)
    local, j = local_mask(o, 0, T), np.arange(T)
    log_sum = lambda seen: np.logaddexp.reduce(np.where(seen, logits, -np.inf), axis=-1).T
    L = log_sum(local)
    share = log_sum(local & (j < o.sinks)) - L if o.sinks else np.zeros_like(L)
    far = np.maximum(j - o.recent - o.sinks, 0)
    n = np.maximum(far, 1)
    before = lambda x: np.concatenate([np.zeros_like(x[:1]), np.cumsum(x, 0)])
    mean, square = ((s[np.minimum(o.sinks + far, T)] - s[min(o.sinks, T)]) / n[:, None, None] * (far > 0)[:, None, None]
                    for s in (before(k), before(k * k)))
    guess = (q * mean).sum(-1) / math.sqrt(d) + (q * q * np.maximum(square - mean * mean, 0)).sum(-1) / (2 * d)
    return np.concatenate([L, share, np.clip(guess + np.log(n)[:, None] - L, -12, 12), np.log(n)[:, None]], 1)


def features_of(o, number, moments, keys, values, queries, residual, normed):
    """[T, features], the bias left out."""
    T, hidden = normed.shape
    log_norm = lambda x: np.log(norm(x.reshape(T, -1)) + 1e-6)[:, None]
    muK, varK, muV, varV = np.array([m or (0,) * 4 for m in moments]).T
    seed = o.seed * 0x9E3779B97F4A7C15 + (number << 40)
    sign = lambda a, j: 1 - 2.0 * (mix64(seed + (a << 8) + j) >> 63)
    signs = lambda: np.array([[sign(a, j) for j in range(o.projections)] for a in range(hidden)])
    groups = {"similarity": lambda: [np.stack([muK, muV, np.sqrt(varK), np.sqrt(varV)], 1)],
              "norm": lambda: [log_norm(x) for x in (keys, values, residual)],
              "projection": lambda: [normed.astype(np.float64) @ signs() / math.sqrt(hidden)],
              "query": lambda: [log_norm(queries)], "local": lambda: [local_features(o, queries, keys)]}
    return np.concatenate([column for name, group in groups.items() if name in o.features for column in group()], 1)


def block_starts(o, T):
    return sorted({b for b in (0, o.warmup, *range(0, T, o.block)) if b < T and (b == 0 or b >= o.warmup)})


def run_layer(o, number, rho, kv_rho, keys, values, chunk=0, similar=None, queries=None, residual=None, normed=None,
              project=None, observe=None, whole=()):
    """
    Decides a layer's tokens block by block, with the attention between where queries are given.

    rho, kv_rho: shares of the two sides, None where a side is not filtered here. similar: keys that are compared, where
    they are not the cached ones. project [heads * d, hidden]: the output projection. observe(start, end, keep) gives
    the learned rule's y in place of the attention. whole: KV heads that keep every key; what keys receive is of the rest.
    Gives keep, kvKeep [T]; judged [T], the block start or -1; scores, thresholds, moments, wK; margin, the least
    distance of a decision; out [T, hidden]; y of the tokens that count.
    """
    T, compared, learns = len(keys), keys if similar is None else similar, rho is not None and o.fusion == "learned"
    judges, sign = kv_rho is not None and o.kvFusion not in ("same", "none"), -1 if o.invert else 1
    invert = lambda s: None if s is None else sign * s
    anchors, moments, margin = Anchors(o), [None] * T, math.inf
    if o.absorb == "all" and T > 1:
        past = [anchors.absorb(compared[t], values[t]) for t in range(T - 1)]
        moments[1:] = moments_of(compared[1:], values[1:], *(np.array(a) for a in zip(*past)))
    S, thresholds, wK = [None] * T, [None] * T, [None] * T
    keep, until, judged = np.ones(T, bool), np.full(T, NEVER), np.full(T, -1)
    query_side, key_side, chosen, kv_chosen = Threshold(o, rho), Threshold(o, kv_rho), None, None
    value_norms, received, distant, y = norm(values.reshape(T, -1)), *np.zeros((2, T)), np.full(T, np.nan)
    score = lambda t: fuse(o.fusion, o, t, moments[t], number, chunk, o.seed, value_norms)
    if rho is not None and (o.fusion == "oracle" or o.threshold == "topk"):
        if o.fusion == "oracle":
            full = attend(queries, keys, values, np.tril(np.ones((T, T), bool)))[0] @ project
            S = (-norm(full) / norm(residual)).tolist()
        else:
            S[1:], wK[1:] = zip(*(score(t) for t in range(1, T)))
        S = [invert(s) for s in S]
        chosen, margin = highest(o, S, rho)
    kv_scores = key_scores(o, compared, values, moments, number, chunk) if judges else []
    kv_scores = [invert(s) for s in kv_scores]
    if judges and o.threshold == "topk":
        kv_chosen, gap = highest(o, kv_scores, kv_rho)
        margin = min(margin, gap)
    features = features_of(o, number, moments, keys, values, queries, residual, normed) if learns else None
    first = o.recent + o.sinks + 8 if o.substitute == "local" else 0
    ridge, due, last, total, totalled = None, 0, None, 0, 0
    out = None if project is None else np.zeros((T, project.shape[1]), keys.dtype)
    starts = block_starts(o, T)
    for start, end in zip(starts, starts[1:] + [T]):
        i, j, block = np.arange(start, end), np.arange(end), slice(start, end)
        while judges and due < start - o.recent:
            if o.kvFusion in ATTENDED:
                far = keep[due + o.recent // 2 + 1:start].sum() if o.kvFusion == "missed" else 0
                mass = distant[due] / far if far else received[due] / max(1, keep[due + 1:start].sum())
                kv_scores[due] *= -mass
            goes, theta = key_side.decide(due, kv_scores[due]) if kv_chosen is None else (kv_chosen[due], None)
            if theta is not None and due >= max(o.warmup, 1):
                margin = min(margin, abs(kv_scores[due] - theta))
            judged[due], until[due], due = start, start if goes else NEVER, due + 1
        if learns and start >= o.warmup > 0:
            if ridge is None:
                ridge = Ridge(o, features[:start])
                ridge.observe(features[first:start], y[first:start])
                query_side.scores = (-sign * ridge.predict(features[:start])).tolist()
            S[block] = (-sign * ridge.predict(features[block])).tolist()
        for t in range(start, end) if rho is not None else ():
            if o.absorb == "kept" and t > 0:
                moments[t] = moments_of(compared[t:t + 1], values[t:t + 1], *(a[None] for a in anchors.kv))[0]
            if chosen is not None:
                keep[t] = not chosen[t]
            elif not learns or ridge is not None:
                if not learns and t > 0:
                    s, wK[t] = score(t)
                    S[t] = invert(s)
                skip, thresholds[t] = query_side.decide(t, S[t])
                keep[t] = not skip
                if thresholds[t] is not None and t >= max(o.warmup, 1):
                    margin = min(margin, abs(S[t] - thresholds[t]))
            if o.absorb == "kept" and keep[t]:
                anchors.absorb(compared[t], values[t])
            if o.kvFusion == "same" and not keep[t]:
                until[t] = t + o.recent + 1
        if observe is not None:
            y[block] = observe(start, end, keep)
        elif queries is not None:
            seen = (j <= i[:, None]) & (until[:end] > i[:, None])
            local = local_mask(o, start, end)
            read = queries[block], keys[:end], values[:end]
            stays = np.repeat(np.isin(np.arange(keys.shape[1]), whole), queries.shape[1] // keys.shape[1])
            seen = np.where(stays[:, None, None], j <= i[:, None], seen)
            heads_out, p = attend(*read, seen | local if o.substitute == "local" else seen)
            p, age = p[~stays].mean(0, dtype=np.float64) * keep[block, None], i[:, None] - j
            received[:end] += (p * (age > 0)).sum(0)
            distant[:end] += (p * (age > o.recent / 2)).sum(0)
        if project is not None:
            full = heads_out @ project
            stands_in = np.zeros_like(full)
            if o.substitute == "local":
                stands_in = attend(*read, local)[0] @ project
            elif o.substitute == "mean" and totalled:
                stands_in[:] = total / totalled
            for t in i if o.substitute == "last" else ():
                stands_in[t - start] = 0 if last is None else last
                last = full[t - start] if keep[t] else last
            out[block] = np.where(keep[block, None], full, stands_in)
            size = norm(residual[block])
            y[block] = np.log((norm(full) + 1e-6) / (size + 1e-6)) if o.substitute == "none" else np.log(
                norm(full - stands_in) / size + 1e-3)
            counts = keep[block] & (i >= 4)
            total, totalled = total + full[counts].sum(0, dtype=np.float64), totalled + counts.sum()
        if ridge is not None:
            rows = i[keep[block] & (i >= first)]
            ridge.observe(features[rows], y[rows])
    return SimpleNamespace(keep=keep, kvKeep=until == NEVER, judged=judged, scores=S, thresholds=thresholds, wK=wK,
                           moments=moments, margin=margin, out=out, y=y[first:])
