"""Writes golden.json: decisions of Token Filtering by a second, independent implementation in numpy (float64).

usage: python3 make_golden.py > golden.json        (needs numpy; the same bytes on every run)

It was written from the method's text alone, token by token and without sharing code with the toolkit.

Schema of golden.json
---------------------
datasets    {name: {T, H, d, noise, drift, seed, zeroKeys, zeroValues[, hiddenSize, numHeads]}}: how to make inputs.
moments     list of {muK, varK, muV, varV}, arrays over T, null at t = 0. Cases whose anchors move alike share one.
cases       list of {name, dataset, moments, spec, keep, redundancy, threshold, wK, margin}:
  moments     index into `moments`
  spec        the options of the layer, under the names of LayerSpec in lib/filter/layer.ts, but for the defaults:
              fusion variance, invert false, tau 1, lambda 0, eps 1e-6, alpha 0.5, anchor ema, gamma 0.9, absorb all,
              warmup 32, threshold budget, window 256, theta 0.5, eta 0.1, seed "0" (a decimal string), chunk 0,
              layer 0, block 32, ridge 1, projections 16, features ["similarity", "norm", "projection"], recent 16,
              substitute none, sinks 4
  keep        a string of T digits, 1 = kept
  redundancy  array over T; null = undefined (t = 0; for `learned` the warm-up)
  threshold   array over T, the warm-up's included (it is kept whatever it says); null = there is none (no score yet,
              a ratio of 0 to aim at, before the start of robbins-monro, the warm-up of `learned`, topk)
  wK          array over T for `variance` (null at t = 0); one number for `mean`, `static`, `key`, `value`; else null
  margin      smallest |redundancy - threshold| of a decision (for topk the gap at the cut); null = no decision
Numbers have 10 significant digits: compare with |a - b| <= 1e-9 * max(1, |b|, tau).

Inputs of a dataset (exact in any language with float64 and a rounding to float32)
----------------------------------------------------------------------------------
next():    s = (1664525 * s + 1013904223) mod 2^32, from s = seed; returns s / 2^32.
normal():  next() + next() + next() + next() - 2, summed from the left.
In this order: base[2][H][d], slope[2][H][d] by normal(); then for t = 0..T-1: for side = 0 (key), 1 (value): level =
noise * (0.25 + next()); for h, i: x[t][h][i] = float32(base + slope * (drift * t / T) + level * normal()), evaluated
from the left; all zeros for the tokens listed in zeroKeys and zeroValues. Then, where hiddenSize is given:
mix[hiddenSize] by normal(); for t: size = 0.5 + 2 * next(); for a < hiddenSize: residual = float32(size * (mix[a] +
normal())); for a < hiddenSize: normed = float32(residual / size + 0.25 * normal()); for a < numHeads * d: queries =
float32(normal()); outputNorm[t] = (0.1 + |normed[t][0]|) * (0.5 + next()).
y of a kept token is ln((outputNorm + 1e-6) / (norm(residual) + 1e-6)); with a substitute ln(outputNorm / norm(residual)
+ 1e-3), and with the substitute local it is fitted from token recent + sinks + 8 on.
"""
import json
import sys

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15

DATASETS = {
    "drift": dict(T=128, H=3, d=32, noise=1.5, drift=4.0, seed=1),
    "many": dict(T=96, H=8, d=16, noise=2.0, drift=1.0, seed=2),
    "single": dict(T=96, H=1, d=8, noise=2.0, drift=2.0, seed=3, zeroKeys=[0, 40], zeroValues=[41]),
    "blocks": dict(T=150, H=3, d=8, noise=1.5, drift=2.0, seed=4, hiddenSize=24, numHeads=6),
}
DEFAULTS = dict(
    fusion="variance", invert=False, tau=1, lambda_=0, eps=1e-6, alpha=0.5, anchor="ema", gamma=0.9, absorb="all",
    warmup=32, threshold="budget", window=256, theta=0.5, eta=0.1, seed="0", chunk=0, layer=0, block=32, ridge=1,
    projections=16, features=["similarity", "norm", "projection"], skipRatio=0.5, recent=16, substitute="none",
    sinks=4)


class Draw:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (1664525 * self.state + 1013904223) % (1 << 32)
        return self.state / (1 << 32)

    def normal(self):
        return self.next() + self.next() + self.next() + self.next() - 2


def make_inputs(T, H, d, noise, drift, seed, zeroKeys=(), zeroValues=(), hiddenSize=0, numHeads=0):
    draw = Draw(seed)
    array = lambda *shape: np.array([draw.normal() for _ in range(int(np.prod(shape)))]).reshape(shape)
    base, slope = array(2, H, d), array(2, H, d)
    kv = np.zeros((2, T, H, d), np.float32)
    for t in range(T):
        for side in range(2):
            level = noise * (0.25 + draw.next())
            kv[side, t] = base[side] + slope[side] * (drift * t / T) + level * array(H, d)
    kv[0, list(zeroKeys)] = 0
    kv[1, list(zeroValues)] = 0
    data = dict(keys=kv[0], values=kv[1])
    if hiddenSize:
        mix = array(hiddenSize)
        residual, normed = np.zeros((2, T, hiddenSize), np.float32)
        queries, output = np.zeros((T, numHeads * d), np.float32), np.zeros(T)
        for t in range(T):
            size = 0.5 + 2 * draw.next()
            residual[t] = size * (mix + array(hiddenSize))
            normed[t] = residual[t].astype(np.float64) / size + 0.25 * array(hiddenSize)
            queries[t] = array(numHeads * d)
            output[t] = (0.1 + abs(float(normed[t, 0]))) * (0.5 + draw.next())
        size = np.sqrt((residual.astype(np.float64) ** 2).sum(1))
        plain, error = np.log((output + 1e-6) / (size + 1e-6)), np.log(output / size + 1e-3)
        observe = lambda start, end, keep, replaced: (error if replaced else plain)[start:end]
        data |= dict(residual=residual, normed=normed, queries=queries, observe=observe)
    return data


def mix64(x):
    """SplitMix64's finalizer."""
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def cosines(a, b):
    """Of each head, [H]; 0 where a vector is 0."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.sqrt((a * a).sum(1)) * np.sqrt((b * b).sum(1))
    return (a * b).sum(1) / np.where(norms > 0, norms, np.inf)


def similarity(x, anchor):
    """Mean and population variance over heads of the cosines with the anchor."""
    s = cosines(x, anchor)
    return s.mean(), ((s - s.mean()) ** 2).mean()


def fuse(o, t, muK, varK, muV, varV):
    """The score before `invert`, and the weight of the key side where it is computed."""
    rule = o["fusion"]
    if rule == "variance":
        w = 1 / (1 + np.exp(min(o["tau"] * (np.log(varK + o["eps"]) - np.log(varV + o["eps"])), 700.0)))
        lam = o["lambda_"]
        s = w * (muK - lam * np.sqrt(varK)) + (1 - w) * (muV - lam * np.sqrt(varV))
        return min(max(s, -1.0), 1.0), w
    if rule == "random":
        return (mix64((int(o["seed"]) + o["chunk"]) * GOLDEN + (o["layer"] << 40) + t) >> 11) / 2.0 ** 53, None
    return {"mean": (muK + muV) / 2, "static": o["alpha"] * muK + (1 - o["alpha"]) * muV, "key": muK, "value": muV,
            "min": min(muK, muV), "max": max(muK, muV), "product": muK * muV}[rule], None


class Policy:
    """Causal threshold policies: theta(t) before token t, then record(score, skipped)."""

    def __init__(self, o):
        self.o, self.scores, self.c, self.skipped, self.theta = o, [], 0, 0, None

    def aim(self):
        rho = self.o["skipRatio"]
        if self.o["threshold"] == "budget":
            return min(max(rho + (rho * self.c - self.skipped) / 16, 0.0), 1.0)
        return rho

    def limit(self, t):
        """theta, or None: keep."""
        o = self.o
        if o["threshold"] == "fixed":
            return o["theta"]
        if o["skipRatio"] == 0 or not self.scores:
            return None
        if o["threshold"] == "robbins-monro":
            if t == max(o["warmup"], 2):
                self.theta = float(np.quantile(self.scores, 1 - o["skipRatio"]))
                self.sd = max(float(np.std(self.scores)), 1e-3)
            return self.theta
        r = self.aim()
        return None if r == 0 else float(np.quantile(self.scores[-o["window"]:], 1 - r))

    def record(self, t, score, skip):
        o = self.o
        if score is not None:
            self.scores.append(score)
        if t >= max(o["warmup"], 1):
            self.c += 1
            self.skipped += skip
        if self.theta is not None:
            self.theta += o["eta"] * self.sd * ((score > self.theta) - o["skipRatio"])


class Anchors:
    def __init__(self, o, shape):
        self.o, self.m = o, 0
        self.k, self.v = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def moments(self, k, v):
        return similarity(k, self.k) + similarity(v, self.v)

    def absorb(self, k, v):
        if self.m == 0:
            self.k, self.v = k.copy(), v.copy()
        else:
            g = self.o["gamma"] if self.o["anchor"] == "ema" else self.m / (self.m + 1)
            move = lambda a, x: (g * a.astype(np.float64) + (1 - g) * x.astype(np.float64)).astype(np.float32)
            self.k, self.v = move(self.k, k), move(self.v, v)
        self.m += 1


def empty(T):
    columns = "redundancy threshold muK varK muV varV wK".split()
    return {"keep": [1] * T, **{c: [None] * T for c in columns}}


def decide(o, data):
    """keep, redundancy, threshold, muK, varK, muV, varV, wK of every token under the options `o`."""
    if o["fusion"] == "learned":
        return run_learned(o, data)
    return run_topk(o, data) if o["threshold"] == "topk" else run_causal(o, data)


def run_causal(o, data):
    T, H, d = data["keys"].shape
    out, anchors, policy = empty(T), Anchors(o, (H, d)), Policy(o)
    for t in range(T):
        k, v = data["keys"][t], data["values"][t]
        score, skip = None, False
        if t > 0:
            four = anchors.moments(k, v)
            score, out["wK"][t] = fuse(o, t, *four)
            score = -score if o["invert"] else score
            out["muK"][t], out["varK"][t], out["muV"][t], out["varV"][t] = four
        theta = out["threshold"][t] = policy.limit(t)
        if t >= max(o["warmup"], 1) and theta is not None:
            skip = bool(score > theta)
        out["redundancy"][t], out["keep"][t] = score, int(not skip)
        policy.record(t, score, skip)
        if o["absorb"] == "all" or not skip:
            anchors.absorb(k, v)
    return out


def run_topk(o, data):
    """Looks ahead: the scores of a run that keeps everything, the highest of which are skipped."""
    out = run_causal({**o, "threshold": "fixed", "theta": np.inf, "absorb": "all"}, data)
    T = len(out["keep"])
    able = range(max(o["warmup"], 1), T)
    count = min(len(able), int(np.floor(o["skipRatio"] * max(T - o["warmup"], 0) + 0.5)))
    order = sorted(able, key=lambda t: (-out["redundancy"][t], t))
    for t in order[:count]:
        out["keep"][t] = 0
    out["threshold"] = [None] * T
    if 0 < count < len(order):
        out["gap"] = out["redundancy"][order[count - 1]] - out["redundancy"][order[count]]
    return out


def local_features(o, data, t):
    """From the definition: all keys are looked at anew for every token."""
    T, H, d = data["keys"].shape
    q = data["queries"][t].astype(np.float64).reshape(-1, d)
    past, j = data["keys"][:t + 1].astype(np.float64), np.arange(t + 1)
    sink, local = j < o["sinks"], (j < o["sinks"]) | (t - j <= o["recent"])
    row, n = [], max(1, int((~local).sum()))
    for head in range(len(q)):
        k = past[:, head // (len(q) // H)]
        e = np.exp(k @ q[head] / np.sqrt(d))
        L = np.log(e[local].sum())
        far = k[~local] if (~local).any() else np.zeros((1, d))
        guess = q[head] @ far.mean(0) / np.sqrt(d) + (q[head] ** 2) @ far.var(0) / (2 * d) + np.log(n) - L
        row += [L, np.log(e[sink].sum()) - L if o["sinks"] else 0.0, np.clip(guess, -12, 12)]
    return row + [np.log(n)]


def run_learned(o, data):
    """data["observe"](start, end, keep) gives y of those tokens; only kept ones are read."""
    T, H, d = data["keys"].shape
    norm = lambda x: np.sqrt((x.astype(np.float64) ** 2).sum())
    hidden = data["normed"].shape[1]
    seed = int(o["seed"]) * GOLDEN + (o["layer"] << 40)
    signs = np.array([[-1.0 if mix64(seed + (a << 8) + j) >> 63 else 1.0 for j in range(o["projections"])]
                      for a in range(hidden)])
    out, anchors, rows = empty(T), Anchors(o, (H, d)), []
    for t in range(T):
        k, v = data["keys"][t], data["values"][t]
        four = (0.0,) * 4
        if t > 0:
            four = anchors.moments(k, v)
            out["muK"][t], out["varK"][t], out["muV"][t], out["varV"][t] = four
        muK, varK, muV, varV = four
        row = []
        if "similarity" in o["features"]:
            row += [muK, muV, np.sqrt(varK), np.sqrt(varV)]
        if "norm" in o["features"]:
            row += [np.log(norm(k) + 1e-6), np.log(norm(v) + 1e-6), np.log(norm(data["residual"][t]) + 1e-6)]
        if "projection" in o["features"]:
            row += list(data["normed"][t].astype(np.float64) @ signs / np.sqrt(hidden))
        if "query" in o["features"]:
            row += [np.log(norm(data["queries"][t]) + 1e-6)]
        if "local" in o["features"]:
            row += local_features(o, data, t)
        rows.append(row)
        anchors.absorb(k, v)
    f = np.array(rows)
    w0 = o["warmup"]
    replaced = o["substitute"] != "none"
    first = o["recent"] + o["sinks"] + 8 if o["substitute"] == "local" else 0
    y = data["observe"](0, min(w0, T), out["keep"], replaced)
    if T < w0:
        return out
    z = np.concatenate([(f - f[:w0].mean(0)) / (f[:w0].std(0) + 1e-3), np.ones((T, 1))], 1)
    A, b = o["ridge"] * np.eye(z.shape[1]) + z[first:w0].T @ z[first:w0], z[first:w0].T @ y[first:]
    sign = 1.0 if o["invert"] else -1.0
    policy, start = Policy(o), w0
    while start < T:
        w = np.linalg.solve(A, b)
        if start == w0:
            policy.scores = [float(s) for s in sign * (z[:w0] @ w)]
        end = min((start // o["block"] + 1) * o["block"], T)
        for t in range(start, end):
            score, theta = float(sign * (z[t] @ w)), policy.limit(t)
            skip = theta is not None and score > theta
            out["redundancy"][t], out["threshold"][t], out["keep"][t] = score, theta, int(not skip)
            policy.record(t, score, skip)
        y = data["observe"](start, end, out["keep"], replaced)
        kept = [t for t in range(start, end) if out["keep"][t]]
        A, b = A + z[kept].T @ z[kept], b + z[kept].T @ y[[t - start for t in kept]]
        start = end
    return out


def case_list():
    cases = []
    add = lambda name, dataset, **o: cases.append((name, dataset, o))
    for tau in (0, 0.5, 1, 4, 64):
        for lam in (0, 0.5):
            add(f"variance tau {tau} lambda {lam}", "drift", tau=tau, lambda_=lam)
    for rule in ("mean", "key", "value", "min", "max", "product"):
        add(rule, "drift", fusion=rule, skipRatio=0.3)
    add("static alpha 0.25", "drift", fusion="static", alpha=0.25)
    add("random", "drift", fusion="random")
    add("random, seed, layer and chunk", "drift", fusion="random", seed="18446744073709551615", layer=39, chunk=3)
    for rule in ("variance", "product", "random"):
        add(f"{rule} inverted", "drift", fusion=rule, invert=True)
    for policy in ("window", "robbins-monro", "fixed", "topk"):
        theta = 0.55 if policy == "fixed" else 0.5
        add(policy, "drift", threshold=policy, theta=theta)
        add(f"{policy}, one head with zero vectors", "single", threshold=policy, skipRatio=0.25, warmup=8, theta=theta)
    for policy in ("budget", "window", "robbins-monro"):
        for rho in (0, 0.1, 0.9, 1):
            if policy == "budget" or rho in (0, 0.9):
                add(f"{policy} rho {rho}", "many", threshold=policy, skipRatio=rho, warmup=8)
    for policy in ("budget", "window", "robbins-monro", "fixed", "topk"):
        for warmup in (0, 1, 2):
            add(f"{policy}, warm-up {warmup}", "many", threshold=policy, warmup=warmup, theta=0.5)
    add("budget, warm-up as long as the text", "many", warmup=96)
    add("topk, warm-up longer than the text", "many", warmup=200, threshold="topk")
    for window in (1, 16):
        add(f"budget, window {window}", "drift", window=window)
    add("robbins-monro eta 0.5", "drift", threshold="robbins-monro", eta=0.5, skipRatio=0.3)
    for gamma in (0, 0.99):
        add(f"gamma {gamma}", "many", gamma=gamma)
    add("mean anchor", "drift", anchor="mean")
    add("absorb kept", "drift", absorb="kept")
    add("absorb kept, mean anchor", "drift", absorb="kept", anchor="mean", fusion="random")
    add("absorb kept, warm-up 0", "single", absorb="kept", warmup=0, threshold="window", lambda_=0.5)
    add("key on one head with zero vectors", "single", fusion="key", warmup=1)
    L = dict(fusion="learned")
    add("learned", "blocks", **L)
    add("learned, window policy, 30%", "blocks", **L, threshold="window", skipRatio=0.3, window=24)
    add("learned, warm-up 8, block 16", "blocks", **L, warmup=8, block=16)
    add("learned, warm-up 40, block 32", "blocks", **L, warmup=40, ridge=4, skipRatio=0.7)
    add("learned, block 1", "blocks", **L, warmup=12, block=1, projections=4)
    add("learned, all features, seed and layer", "blocks", **L, seed="12345678901234567890", layer=7,
        features=["similarity", "norm", "projection", "query"])
    add("learned, norms alone, mean anchor", "blocks", **L, features=["norm"], anchor="mean")
    add("learned, similarity alone, inverted", "blocks", **L, features=["similarity"], invert=True)
    add("learned, warm-up longer than the text", "blocks", **L, warmup=200)
    add("learned, error of the last output", "blocks", **L, substitute="last")
    local = ["similarity", "norm", "projection", "local"]
    add("learned, error of local attention", "blocks", **L, substitute="local", recent=12, warmup=40, features=local)
    add("learned, local features alone, no sinks", "blocks", **L, substitute="local", recent=3, sinks=0, warmup=27,
        features=["local"], block=8, ridge=0.5)
    return cases


def rounded(x):
    return None if x is None else float(f"{x:.10g}")


def main():
    inputs = {name: make_inputs(**d) for name, d in DATASETS.items()}
    moments, shared, cases = [], {}, []
    for name, dataset, options in case_list():
        o = {**DEFAULTS, **options}
        out = decide(o, inputs[dataset])
        columns = {c: [rounded(x) for x in out[c]] for c in ("muK", "varK", "muV", "varV")}
        text = json.dumps(columns)
        if text not in shared:
            shared[text] = len(moments)
            moments.append(columns)
        decided = max(o["warmup"], 1)
        gaps = [abs(s - q) for s, q in list(zip(out["redundancy"], out["threshold"]))[decided:] if q is not None]
        gaps += [out["gap"]] if "gap" in out else []
        margin = min(gaps, default=None)
        if margin is not None and margin < 1e-7:
            sys.exit(f"Cannot use case \"{name}\": found a decision within {margin} of its threshold, expected 1e-7")
        constant = {"mean": 0.5, "static": o["alpha"], "key": 1, "value": 0}.get(o["fusion"])
        cases.append({
            "name": name, "dataset": dataset, "moments": shared[text],
            "spec": {k.rstrip("_"): v for k, v in options.items()},
            "keep": "".join(map(str, out["keep"])),
            "redundancy": [rounded(x) for x in out["redundancy"]],
            "threshold": [rounded(x) for x in out["threshold"]],
            "wK": [rounded(x) for x in out["wK"]] if o["fusion"] == "variance" else constant,
            "margin": margin and float(f"{margin:.2g}")})
    for d in DATASETS.values():
        d.setdefault("zeroKeys", [])
        d.setdefault("zeroValues", [])
    line = lambda x: json.dumps(x, separators=(",", ":"))
    rows = lambda xs: "[\n" + ",\n".join(line(x) for x in xs) + "\n]"
    print(f'{{"datasets":{line(DATASETS)},\n"moments":{rows(moments)},\n"cases":{rows(cases)}}}')


if __name__ == "__main__":
    main()
