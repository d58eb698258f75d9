"""Writes key_golden.json: decisions of both sides of filtering by a second, independent implementation in numpy.

usage: python3 make_key_golden.py > key_golden.json        (needs numpy; the same bytes on every run)

Written from the method's text alone, token by token. Inputs, anchors, fusion and policies are those of make_golden.py,
which shares no code with the toolkit either.

Schema: {"cases": [{dataset, options, keep, kvKeep, judged, margin}]}
  dataset   how to make inputs, as in golden.json
  options   of both sides; rho and kvRho are the shares asked of this layer; the rest as the toolkit calls them
  keep      a string of T digits: 1 = the query is computed
  kvKeep    a string of T digits: 0 = key and value have gone when all T tokens have come
  judged    [[block start, tokens judged there], ...]
  margin    smallest |score - threshold| of a decision on either side, so that rounding decides nothing
"""
import json

import numpy as np
from make_golden import DEFAULTS, Anchors, Policy, fuse, make_inputs, run_causal

RULES = "variance mean static key value min max product random received missed keydiff cur knorm".split()


def key_side(o, data, computed):
    """Token by token. `computed`: whether each query is. Gives kvKeep, judged and the smallest margin."""
    keys, values = data["keys"].astype(np.float64), data["values"].astype(np.float64)
    T, H, d = keys.shape
    queries = data["queries"].astype(np.float64).reshape(T, -1, d)
    group = queries.shape[1] // H
    starts = {0, o["warmup"], *range(0, T, o["block"])} - set(range(1, o["warmup"]))
    anchors, policy = Anchors(o, (H, d)), Policy(o)
    score, directions, alive, keep, judged, margin = {}, np.zeros(H * d), [], [1] * T, [], np.inf
    given, asked = np.zeros(T), np.zeros(T)  # attention received, and by how many queries
    far, distant = np.zeros(T), np.zeros(T)  # the same of queries more than half a window later
    means = np.cumsum(values.reshape(T, -1), axis=0) / np.arange(1, T + 1)[:, None]
    waiting = []
    for t in range(T):
        if t in starts:  # judge what has left the window, in order
            due = [j for j in waiting if j < t - o["recent"]]
            waiting = [j for j in waiting if j >= t - o["recent"]]
            if due:
                judged.append([t, len(due)])
            for j in due:
                S = score[j]
                if o["kvFusion"] == "received":
                    S = -(given[j] / asked[j] if asked[j] else 0.0)
                if o["kvFusion"] == "missed":
                    mass = far[j] / distant[j] if distant[j] else given[j] / asked[j] if asked[j] else 0.0
                    S = -mass * np.linalg.norm(values[j].ravel() - means[j])
                if S is not None and o["invert"]:
                    S = -S
                theta, drop = policy.limit(j), False
                if j >= max(o["warmup"], 1) and theta is not None and S is not None:
                    drop = bool(S > theta)
                    margin = min(margin, abs(S - theta))
                policy.record(j, S, drop)
                if drop:
                    keep[j] = 0
                    alive.remove(j)
        # the token comes
        k, v = keys[t].ravel(), values[t].ravel()
        size = np.sqrt(k @ k)
        directions = directions + (k / size if size > 0 else 0)
        length = np.sqrt(directions @ directions)
        rule = o["kvFusion"]
        if rule in ("received", "missed"):
            score[t] = None
        elif rule == "keydiff":
            score[t] = float(k @ directions / (size * length)) if size > 0 and length > 0 else 0.0
        elif rule == "cur":
            score[t] = float(-size * np.sqrt(v @ v))
        elif rule == "knorm":
            score[t] = float(size)
        elif t == 0:
            score[t] = None
        else:
            four = anchors.moments(data["keys"][t], data["values"][t])
            own = {**o, "fusion": rule, "seed": str((int(o["seed"]) + 1_000_003) % 2**64)}
            score[t] = float(fuse(own, t, *four)[0])
        anchors.absorb(data["keys"][t], data["values"][t])
        alive.append(t)
        waiting.append(t)
        # its attention
        if computed[t]:
            seen = np.array(alive)
            mean = np.zeros(len(seen))
            for head in range(queries.shape[1]):
                logits = keys[seen, head // group] @ queries[t, head] / np.sqrt(d)
                p = np.exp(logits - logits.max())
                mean += p / p.sum() / queries.shape[1]
            for j, p in zip(alive, mean):
                if j < t:
                    given[j] += p
                    asked[j] += 1
                    if t - j > o["recent"] / 2:
                        far[j] += p
                        distant[j] += 1
    return "".join(map(str, keep)), judged, margin


def draw_case(draw, number):
    pick = lambda choices: choices[draw.integers(len(choices))]
    H = pick([1, 2, 3])
    dataset = dict(T=pick([50, 77, 96]), H=H, d=pick([4, 8]), noise=pick([1.0, 2.0]), drift=pick([0.5, 3.0]),
                   seed=1000 + number, zeroKeys=[0, 30] if number % 5 == 0 else [], zeroValues=[], hiddenSize=2,
                   numHeads=H * pick([1, 2]))
    policy = pick(["budget", "budget", "window", "robbins-monro", "fixed"])
    options = dict(
        fusion=pick(["variance", "mean", "random", "key"]), kvFusion=RULES[number % len(RULES)],
        rho=pick([0.125, 0.25, 0.5]), kvRho=pick([0.25, 0.5, 0.75]), invert=number % 4 == 3,
        threshold=policy, theta=pick([0.2, 0.5]) * (1 if number % 2 else -1), window=pick([4, 32, 256]),
        warmup=pick([0, 1, 6, 16, 20]), block=pick([1, 4, 8, 16]), recent=pick([0, 3, 9, 17]),
        anchor=pick(["ema", "mean"]), tau=pick([0, 1, 4]), layer=pick([0, 1, 3]), chunk=pick([0, 2]),
        seed=pick(["0", "7", "18446744073709551610"]))
    return dataset, options


def solve(dataset, options):
    data = make_inputs(**dataset)
    o = {**DEFAULTS, **options}
    query = {**o, "skipRatio": o["rho"]}
    out = run_causal(query, data)
    decided = [abs(S - theta) for t, (S, theta) in enumerate(zip(out["redundancy"], out["threshold"]))
               if t >= max(o["warmup"], 1) and theta is not None]
    kvKeep, judged, margin = key_side({**o, "skipRatio": o["kvRho"]}, data, out["keep"])
    margin = min([margin, *decided, 9.0])
    keep = "".join(map(str, out["keep"]))
    return dict(dataset=dataset, options=options, keep=keep, kvKeep=kvKeep, judged=judged, margin=float(margin))


draw, cases, number = np.random.default_rng(11), [], 0
while len(cases) < 40:
    case = solve(*draw_case(draw, number))
    number += 1
    if case["margin"] > 1e-6:
        cases.append({**case, "margin": float(f"{case['margin']:.3g}")})
print('{"cases": [\n' + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]}")
