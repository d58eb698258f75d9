"""Writes a study with Optuna itself (5.0.0) and dumps its tables: what an exported study is held to.

python make_optuna_golden.py > optuna.json
"""
import json
import os
import sqlite3
import tempfile

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

optuna.logging.set_verbosity(optuna.logging.ERROR)
path = os.path.join(tempfile.mkdtemp(), "study.db")
study = optuna.create_study(
    study_name="mine", storage=f"sqlite:///{path}", directions=["minimize", "minimize"]
)
study.set_metric_names(["perplexity", "operations of attention, projections and pairs"])
for name, value in {"model": "tiny", "context": 64}.items():
    study.set_user_attr(name, value)
distributions = {
    "fusion": CategoricalDistribution(["random", "random-protected"]),
    "pruneRatio": FloatDistribution(0.25, 0.5),
    "seed": IntDistribution(0, 3),
}
rows = [
    (["random", 0.25, 0], TrialState.COMPLETE, [50.0, 0.75], {0: 3.5, 1: 4.0}, {}),
    (["random-protected", 0.5, 1], TrialState.COMPLETE, [60.5, 0.5], {}, {}),
    (["random-protected", 0.25, 2], TrialState.WAITING, None, {}, {}),
    (["random", 0.5, 3], TrialState.FAIL, None, {}, {"error": "no number"}),
]
for i, (values, state, objectives, steps, attributes) in enumerate(rows):
    study.add_trial(
        create_trial(
            params=dict(zip(distributions, values)),
            distributions=distributions,
            state=state,
            values=objectives,
            intermediate_values=steps,
            user_attrs={"trial": f"d{i}", **attributes},
        )
    )
db = sqlite3.connect(path)
tables = {}
for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
    cursor = db.execute(f"SELECT * FROM {name}")
    columns = [column[0] for column in cursor.description]
    found = [dict(zip(columns, row)) for row in cursor.fetchall()]
    for row in found:
        for column in ("datetime_start", "datetime_complete"):
            row.pop(column, None)
        for column in ("distribution_json", "value_json"):
            if column in row:
                row[column] = json.loads(row[column])
    tables[name] = {"columns": columns, "rows": found}
print(json.dumps(tables, indent=1))
