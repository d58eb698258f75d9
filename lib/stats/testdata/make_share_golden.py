"""Golden intervals of shares: Wilson's by statsmodels, Tango's by maximizing the likelihood numerically.

    python3 make_share_golden.py > share_golden.json

Tango's interval holds the differences that the score test does not reject. The test's variance is that of the most likely
table with this difference; scipy finds that table by a search over the share of lost items, without the closed form.
"""

import json
import math

from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint


def score(gained, lost, count, delta):
    same = count - gained - lost

    def loss(q):
        parts = ((gained, q + delta), (lost, q), (same, 1 - 2 * q - delta))
        return -sum(n * math.log(max(p, 1e-300)) for n, p in parts if n)

    ends = max(0.0, -delta), (1 - delta) / 2
    q = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-14}).x
    q = min([q, *ends], key=loss)
    return (gained - lost - count * delta) / math.sqrt(count * (2 * q + delta * (1 - delta)))


def tango(gained, lost, count, confidence):
    z, at = norm.ppf((1 + confidence) / 2), (gained - lost) / count
    edge = 1 - 1e-9

    def find(low, high, target):
        def miss(delta):
            return score(gained, lost, count, delta) - target

        return brentq(miss, low, high, xtol=1e-12) if miss(low) * miss(high) < 0 else None

    low = -1.0 if lost == count else find(-edge, at - 1e-9, z)
    high = 1.0 if gained == count else find(at + 1e-9, edge, -z)
    return [low, high]


shares = [[0, 12], [12, 12], [5, 12], [1, 200], [131, 200], [4999, 10042]]
pairs = [[0, 0, 12], [0, 12, 12], [12, 0, 12], [0, 10, 12], [1, 7, 21], [12, 2, 50], [3, 3, 30], [31, 58, 200], [700, 620, 10042]]
print(json.dumps({
    "wilson": [
        {"right": k, "count": n, "confidence": c, "ends": list(map(float, proportion_confint(k, n, 1 - c, "wilson")))}
        for k, n in shares for c in (0.95, 0.8)
    ],
    "tango": [
        {"gained": g, "lost": l, "count": n, "confidence": c, "ends": tango(g, l, n, c)}
        for g, l, n in pairs for c in (0.95, 0.8)
    ],
}))
