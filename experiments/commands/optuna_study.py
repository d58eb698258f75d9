"""Lets an Optuna study choose options of the filter; each trial is a run of `deno task score --json`.

    pip install optuna
    python3 experiments/commands/optuna_study.py --text FILE --trials 20 --storage sqlite:///study.db

Loss and spent attention are both to be low; a trial that skips other than asked breaks a constraint.
"""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

import optuna

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--text", required=True, type=Path, help="what is scored")
parser.add_argument("--tokens", default="512", help="its first tokens (512)")
parser.add_argument("--model", default="tiny", help="as of deno task score (tiny)")
parser.add_argument("--trials", type=int, default=20, help="how many more trials (20)")
parser.add_argument("--storage", help="where Optuna keeps the study: sqlite:///study.db (memory)")
parser.add_argument("--seed", type=int, help="seed of the sampler")
args = parser.parse_args()
DENO = ["deno"] if shutil.which("deno") else ["npx", "-y", "deno@2.9.6"]


def score(options):
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    run = [*DENO, "task", "score", "--model", args.model, "--text", str(args.text.resolve()), "--tokens", args.tokens]
    done = subprocess.run([*run, "--json", *flags], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    if done.returncode == 2:  # a combination that the method does not define
        raise optuna.TrialPruned(done.stderr.strip().splitlines()[-1])
    done.check_returncode()
    return json.loads(done.stdout)


def objective(trial):
    options = {"method": trial.suggest_categorical("method", ["variance", "learned", "mean"])}
    options["prune-ratio"] = trial.suggest_float("prune-ratio", 0.1, 0.6)
    options["recent"] = trial.suggest_int("recent", 0, 64, step=8)
    if options["method"] == "variance":
        options["tau"] = trial.suggest_float("tau", 0.1, 8, log=True)
    found = score(options)
    cost = sum(found["nll"]) / len(found["nll"]) - sum(found["denseNll"]) / len(found["denseNll"])
    trial.set_constraint("ratio", abs(found["achievedRatio"] - options["prune-ratio"]) - 0.02)
    return cost, 1 - found["achievedRatio"]


study = optuna.create_study(
    study_name="tokenfilter", storage=args.storage, load_if_exists=args.storage is not None,
    directions=["minimize", "minimize"],
    sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=args.seed),
)  # fmt: skip
study.optimize(objective, n_trials=args.trials)
for best in study.best_trials:
    print(json.dumps({"loss increase": best.values[0], "kept": best.values[1], **best.params}))
