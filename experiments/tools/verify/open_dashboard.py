"""Opens a study that was exported for Optuna in its dashboard, and says what the dashboard shows of it.

    pip install optuna-dashboard==0.21.0
    deno task study export results/mine --as optuna --out mine.db
    python experiments/tools/verify/open_dashboard.py mine.db

No port is opened: the dashboard's own application answers here.
"""
import io
import json
import os
import sys

import optuna_dashboard

application = optuna_dashboard.wsgi(f"sqlite:///{os.path.abspath(sys.argv[1])}")


def get(path):
    said = []
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "localhost",
               "SERVER_PORT": "80", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}
    body = b"".join(application(request, lambda status, *_: said.append(status)))
    if not said[0].startswith("200"):
        sys.exit(f"{path}: {said[0]}")
    return json.loads(body)


for summary in get("/api/studies")["study_summaries"]:
    study = get(f"/api/studies/{summary['study_id']}")
    states = [trial["state"] for trial in study["trials"]]
    counts = ", ".join(f"{states.count(state)} {state.lower()}" for state in sorted(set(states)))
    print(f"{study['name']}: {', '.join(study['directions'])}; {len(states)} trials: {counts}")
