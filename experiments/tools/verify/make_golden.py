"""Writes lib/filter/testdata/{golden,key_golden}.json: what recurrence.py decides.

usage: python3 make_golden.py [FOLDER]        (needs numpy 2.4.6; the same bytes on every run)

golden.json: named cases of the query side, each number compared
-----------------------------------------------------------------
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

source      in both files: SHA-256 of recurrence.py and make_golden.py together, so that neither changes without them

key_golden.json: random cases of both sides, their decisions compared
---------------------------------------------------------------------
cases       list of {dataset, options, keep, kvKeep, judged, margin}:
  dataset   how to make inputs, as above
  options   of both sides; rho and kvRho are the shares asked of this layer; the rest as the toolkit calls them
  keep      a string of T digits: 1 = the query is computed
  kvKeep    a string of T digits: 0 = key and value have gone when all T tokens have come
  judged    [[block start, tokens judged there], ...]
  margin    smallest |score - threshold| of a decision on either side, so that rounding decides nothing

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
import hashlib
import json
import os
import sys

import numpy as np
from recurrence import ATTENDED, SIMILARITY, read_options, run_layer

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "../../../lib/filter/testdata")

DATASETS = {
    "drift": dict(T=128, H=3, d=32, noise=1.5, drift=4.0, seed=1),
    "many": dict(T=96, H=8, d=16, noise=2.0, drift=1.0, seed=2),
    "single": dict(T=96, H=1, d=8, noise=2.0, drift=2.0, seed=3, zeroKeys=[0, 40], zeroValues=[41]),
    "blocks": dict(T=150, H=3, d=8, noise=1.5, drift=2.0, seed=4, hiddenSize=24, numHeads=6),
}

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
        observe = lambda o: lambda start, end, keep: (plain if o.substitute == "none" else error)[start:end]
        data |= dict(residual=residual, normed=normed, queries=queries.reshape(T, numHeads, d), observe=observe)
    return data


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


def digits(mask):
    return "".join("1" if kept else "0" for kept in mask)


def line(x):
    return json.dumps(x, separators=(",", ":"))


def source():
    text = b"".join(open(os.path.join(HERE, name), "rb").read() for name in ("recurrence.py", "make_golden.py"))
    return hashlib.sha256(text).hexdigest()


def decide(options, data):
    """One case of golden.json, by the names of its columns."""
    given = dict(options)
    number, chunk, rho = (given.pop(name, other) for name, other in (("layer", 0), ("chunk", 0), ("skipRatio", 0.5)))
    o = read_options({"theta": 0.5, **given})
    learns = o.fusion == "learned"
    rest = {**data, "observe": data["observe"](o)} if learns else {side: data[side] for side in ("keys", "values")}
    found = run_layer(o, number, rho, None, chunk=chunk, **rest)
    wK = found.wK if o.fusion == "variance" else found.wK[1]
    return found, wK


def golden():
    inputs = {name: make_inputs(**d) for name, d in DATASETS.items()}
    moments, shared, cases = [], {}, []
    for name, dataset, options in case_list():
        found, wK = decide(options, inputs[dataset])
        fours = [four or (None,) * 4 for four in found.moments]
        columns = {c: [rounded(x) for x in xs] for c, xs in zip(("muK", "varK", "muV", "varV"), zip(*fours))}
        text = json.dumps(columns)
        if text not in shared:
            shared[text] = len(moments)
            moments.append(columns)
        if found.margin < 1e-7:
            sys.exit(f'Cannot use case "{name}": found a decision {found.margin} from its threshold, expected 1e-7')
        cases.append({
            "name": name, "dataset": dataset, "moments": shared[text],
            "spec": {k.rstrip("_"): v for k, v in options.items()},
            "keep": digits(found.keep),
            "redundancy": [rounded(x) for x in found.scores],
            "threshold": [rounded(x) for x in found.thresholds],
            "wK": [rounded(x) for x in wK] if isinstance(wK, list) else wK,
            "margin": float(f"{found.margin:.2g}") if np.isfinite(found.margin) else None})
    for d in DATASETS.values():
        d.setdefault("zeroKeys", [])
        d.setdefault("zeroValues", [])
    rows = lambda xs: "[\n" + ",\n".join(line(x) for x in xs) + "\n]"
    head = f'{{"source":"{source()}",\n"datasets":{line(DATASETS)},\n'
    return f'{head}"moments":{rows(moments)},\n"cases":{rows(cases)}}}\n'


def draw_case(draw, number):
    """Options of a random case: every rule of the key side in turn, all else by chance."""
    pick = lambda *choices: choices[draw.integers(len(choices))]
    H, rules = pick(1, 2, 3), [*SIMILARITY, *ATTENDED, "keydiff", "cur", "knorm"]
    dataset = dict(T=pick(40, 77, 96), H=H, d=pick(2, 8), noise=pick(0.5, 2.0), drift=pick(0.0, 3.0),
                   seed=2000 + number, zeroKeys=pick([], [], [0, 30]), zeroValues=pick([], [0, 1, 33]), hiddenSize=2,
                   numHeads=H * pick(1, 3))
    options = dict(
        fusion=pick(*SIMILARITY), kvFusion=rules[number % len(rules)], rho=pick(0.125, 0.5, 0.75),
        kvRho=pick(0.25, 0.5, 0.875), invert=pick(False, False, True),
        threshold=pick("budget", "budget", "window", "robbins-monro", "fixed"), theta=pick(-0.5, 0.25, 0.5),
        window=pick(1, 5, 32, 256), eta=pick(0.1, 0.7), warmup=pick(0, 1, 2, 7, 16, 20, 33), block=pick(1, 4, 8, 16),
        recent=pick(0, 1, 5, 17), anchor=pick("ema", "ema", "mean"), gamma=pick(0.0, 0.5, 0.9), tau=pick(0, 0.5, 1, 16),
        lambda_=pick(0, 0.5), alpha=pick(0.25, 0.5), protect=pick(0.1, 0.4), layer=pick(0, 1, 3), chunk=pick(0, 2),
        seed=pick("0", "7", "18446744073709551610"))
    return dataset, options


def key_golden():
    draw, cases, number = np.random.default_rng(20261126), [], 0
    while len(cases) < 40:
        dataset, options = draw_case(draw, number)
        data, number = make_inputs(**dataset), number + 1
        given = dict(options)
        layer, chunk, rho, kv_rho = (given.pop(name) for name in ("layer", "chunk", "rho", "kvRho"))
        found = run_layer(read_options(given), layer, rho, kv_rho, data["keys"], data["values"], chunk,
                          queries=data["queries"].astype(np.float64))
        if found.margin < 1e-6:
            continue
        starts, tokens = np.unique(found.judged[found.judged >= 0], return_counts=True)
        cases.append(dict(
            dataset=dataset, options={k.rstrip("_"): v for k, v in options.items()}, keep=digits(found.keep),
            kvKeep=digits(found.kvKeep), judged=list(map(list, zip(starts.tolist(), tokens.tolist()))),
            margin=float(f"{min(found.margin, 9):.3g}")))
    return f'{{"source":"{source()}",\n"cases": [\n' + ",\n".join(map(line, cases)) + "\n]}\n"


def main():
    for name, text in (("golden.json", golden()), ("key_golden.json", key_golden())):
        with open(os.path.join(sys.argv[1] if len(sys.argv) > 1 else FOLDER, name), "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
