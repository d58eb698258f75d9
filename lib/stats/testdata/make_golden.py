"""Golden numbers of the statistics, from numpy, scipy and scikit-learn.

    python3 make_golden.py > golden.json
"""

import json

import numpy as np
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score, roc_curve

rng = np.random.default_rng(20251207)


def case(name, scores, target, labels):
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    # The highest true positive rate at each false positive rate, straight between corners.
    grid = np.linspace(0, 1, 9)
    curve = [float(max(np.interp(g, fpr, tpr), tpr[fpr <= g].max())) for g in grid]
    return {
        "name": name,
        "scores": scores.tolist(),
        "target": target.tolist(),
        "labels": labels.astype(int).tolist(),
        "midranks": rankdata(scores).tolist(),
        "spearman": float(spearmanr(scores, target).statistic),
        "auroc": float(roc_auc_score(labels, scores)),
        "grid": grid.tolist(),
        "roc": curve,
        "mean": float(np.mean(scores)),
        "variance": float(np.var(scores)),
        "quantiles": np.quantile(scores, [0, 0.05, 0.5, 0.95, 1]).tolist(),
    }


cases = []
for name, n in (("few", 5), ("some", 33), ("many", 400)):
    x = rng.normal(size=n)
    y = 0.4 * x + rng.normal(size=n)
    cases.append(case(name, x, y, y > np.quantile(y, 0.6)))
x = rng.integers(0, 4, size=200).astype(float)
y = np.round(x + rng.normal(size=200), 0)
cases.append(case("ties", x, y, y > 1))
x = 1e6 + rng.normal(size=100)
y = -x + rng.normal(size=100)
cases.append(case("offset", x, y, y > np.median(y)))
x = np.tile([0.25, -0.25], 20)
y = np.arange(40.0)
cases.append(case("two values", x, y, y >= 30))

print(json.dumps(cases))
