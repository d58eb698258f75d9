"""Golden numbers of lib/search: points of scipy's Sobol engine, what Optuna's parts compute, and how far its TPE gets.

    python3 make_golden.py > golden.json    # numpy, scipy, optuna 5; half a minute on one core
    python3 make_golden.py branin           # what TPE finds on one function alone
"""

import json
import math
import sys
import warnings

import numpy as np
import optuna
import scipy
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.sampler import _split_trials, default_weights
from scipy.stats import norm, qmc

warnings.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
TRIALS, SEEDS = 100, 20

# Test functions: how a trial is suggested, and what is to be low. lib/search/testing.ts has the same.


def branin(t):
    x, y = t.suggest_float("x", -5, 10), t.suggest_float("y", 0, 15)
    a = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return a * a + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


HARTMANN_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(t):
    x = np.array([t.suggest_float(f"x{i}", 0, 1) for i in range(6)])
    return -float(np.array([1, 1.2, 3, 3.2]) @ np.exp(-(HARTMANN_A * (x - HARTMANN_P) ** 2).sum(1)))


def mixed(t):
    kind = t.suggest_categorical("kind", ["a", "b", "c"])
    n = t.suggest_int("n", 1, 32)
    rate = t.suggest_float("rate", 1e-5, 1, log=True)
    loss = (math.log10(rate) + 2.5) ** 2 + abs(n - 21) / 8
    if kind == "a":
        tau = t.suggest_float("tau", 0, 8)
        return loss + (tau - 5.5) ** 2 / 4
    return loss + {"b": 1, "c": 2}[kind]


def front(t):
    x = [t.suggest_float(f"x{i}", 0, 1) for i in range(4)]
    g = 1 + 3 * sum(x[1:])
    return x[0], g * (1 - math.sqrt(x[0] / g))


def bounded(t):
    x, y = t.suggest_float("x", 0, 6), t.suggest_float("y", 0, 6)
    t.set_constraint("c", math.cos(x) * math.cos(y) - math.sin(x) * math.sin(y) + 0.5)
    return math.sin(x) + y


def best(study, name):
    done = [t for t in study.trials if all(v <= 0 for v in t.constraints.values())]
    if name == "front":
        costs = np.array([t.values for t in done])
        costs = costs[(costs <= [1.1, 3]).all(1)]
        return -compute_hypervolume(costs, np.array([1.1, 3])) if len(costs) else 0.0
    return min((t.value for t in done), default=10.0)


def run(name, objective, seed):
    sampler = optuna.samplers.TPESampler(multivariate=True, group=name == "mixed", seed=seed)
    study = optuna.create_study(directions=["minimize"] * (2 if name == "front" else 1), sampler=sampler)
    study.optimize(objective, n_trials=TRIALS)
    return float(best(study, name))


FUNCTIONS = {"branin": branin, "hartmann": hartmann, "mixed": mixed, "front": front, "bounded": bounded}


def race(name):
    """The best of so many trials, seed by seed."""
    return [run(name, FUNCTIONS[name], seed) for seed in range(SEEDS)]


def parzen():
    """log densities of Optuna's estimator, of axes of all kinds."""
    rng = np.random.default_rng(2)
    space = {
        "plain": FloatDistribution(-1, 3),
        "log": FloatDistribution(1e-4, 1, log=True),
        "step": FloatDistribution(0, 2, step=0.25),
        "int": IntDistribution(2, 9),
        "intlog": IntDistribution(1, 64, log=True),
        "choice": CategoricalDistribution(["a", "b", "c"]),
    }

    def draw(n):
        return {
            "plain": np.round(rng.uniform(-1, 3, n), 3),
            "log": np.round(np.exp(rng.uniform(np.log(1e-4), 0, n)), 5) + 1e-4,
            "step": rng.integers(0, 9, n) * 0.25,
            "int": rng.integers(2, 10, n).astype(float),
            "intlog": np.round(np.exp(rng.uniform(0, np.log(64), n))),
            "choice": rng.integers(0, 3, n).astype(float),
        }

    cases = []
    for n, even in ((0, False), (1, False), (2, True), (7, False), (31, False)):
        # Ints of many observations would tie, and which of equal ones has which width is the sort's affair there.
        seen, at = draw(n), draw(6)
        if n > 10:
            seen["step"], seen["int"] = np.resize(seen["step"][:1], n), np.resize(seen["int"][:1], n)
            seen["intlog"] = np.resize(seen["intlog"][:1], n)
        p = _ParzenEstimatorParameters(1.0, True, False, default_weights, True)
        estimator = _ParzenEstimator(seen, space, p, np.ones(n) if even else None)
        rows = lambda d: np.array([d[k] for k in space]).T.tolist()
        cases.append({"even": even, "seen": rows(seen), "at": rows(at), "logPdf": estimator.log_pdf(at).tolist()})
    return cases


def splits():
    """Which trials Optuna takes for good ones."""
    rng = np.random.default_rng(3)
    cases = []
    for objectives, n, stopped in ((1, 30, 0), (1, 30, 24), (1, 14, 10), (2, 40, 0), (2, 60, 0), (3, 50, 0)):
        study = optuna.create_study(directions=["minimize"] * objectives)
        rows = []
        for i in range(n):
            values = np.round(rng.uniform(0, 1, objectives) ** 2, 2).tolist()
            violation = float(max(0, round(rng.uniform(-2, 1), 2)))
            if i < stopped:
                step = int(rng.integers(1, 5))
                state, shown = optuna.trial.TrialState.PRUNED, {"intermediate_values": {step: values[0]}}
            else:
                step, state, shown = 0, optuna.trial.TrialState.COMPLETE, {"values": values}
            study.add_trial(optuna.create_trial(state=state, params={}, distributions={}, constraints={"c": violation}, **shown))
            rows.append({"values": values, "violation": violation, "step": step, "stopped": i < stopped})
        trials = study.get_trials()
        below = {k: [t.number for t in _split_trials(study, trials, k)[0]] for k in (1, 3, math.ceil(0.1 * n), n - 2)}
        cases.append({"trials": rows, "below": below})
    return cases


def importances():
    """PED-ANOVA of random trials of the function `mixed` and of two objectives."""
    cases = []
    for name, f, objectives in (("mixed", mixed, 1), ("front", front, 2)):
        study = optuna.create_study(
            directions=["minimize"] * objectives, sampler=optuna.samplers.RandomSampler(seed=4)
        )
        study.optimize(f, n_trials=60)
        found = optuna.importance.get_param_importances(study)
        rows = [{"point": t.params, "values": t.values} for t in study.trials]
        cases.append({"name": name, "trials": rows, "importances": found})
    return cases


def volumes():
    rng = np.random.default_rng(5)
    cases = []
    for d in (1, 2, 3, 4):
        for n in (1, 2, 12):
            costs = np.round(rng.uniform(0, 1, (n, d)), 1)
            cases.append({"costs": costs.tolist(), "volume": float(compute_hypervolume(costs, np.ones(d)))})
    return cases


def compact(x):
    return json.loads(json.dumps(x), parse_float=lambda s: float(f"{float(s):.10g}"))


if len(sys.argv) > 1:
    print(json.dumps(compact(race(sys.argv[1]))))
    sys.exit()
golden = {
    "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "optuna": optuna.__version__},
    "normal": [[x, float(norm.cdf(x))] for x in (-37, -20, -8, -7.2, -7.05, -5, -3, -1, -0.3, 0, 0.5, 2, 6)],
    "sobol": qmc.Sobol(64, scramble=False).random(8).tolist(),
    "sobolLater": qmc.Sobol(5, scramble=False).fast_forward(1000).random(3).tolist(),
    "volumes": compact(volumes()),
    "splits": compact(splits()),
    "parzen": compact(parzen()),
    "importances": compact(importances()),
    "race": {name: compact(race(name)) for name in FUNCTIONS},
}
print(json.dumps(golden))
