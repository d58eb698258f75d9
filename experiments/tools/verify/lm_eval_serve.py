"""lm-evaluation-harness through `deno task serve`: every log-likelihood beside our own scoring of the same ids.

usage: pip install "lm_eval[api]==0.4.13" torch transformers sentencepiece protobuf, then
       python3 lm_eval_serve.py ITEMS.jsonl TOKENIZER_FOLDER [--items 100] [--out FILE.json] [-- FLAGS OF serve]
ITEMS.jsonl has a line of {query, choices, gold} each; TOKENIZER_FOLDER is the model's in Hugging Face's form. Nothing is
fetched. The filtered model and the dense one are asked on one server; `lm_eval_scores.ts` scores the same ids. Exits with
1 where a log-likelihood differs by more than 1e-3.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
ROOT = Path(__file__).resolve().parents[3]
TOLERANCE = 1e-3
TASK = """task: local_items
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{query}}}}\\nAnswer:"
doc_to_target: gold
doc_to_choice: choices
metric_list:
  - metric: acc
  - metric: acc_norm
"""


def evaluate(address, model, tokenizer, folder, items):
    """What the harness finds: its accuracies, and for each request its ids, where the answer begins, and its value."""
    import lm_eval
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    lm = LocalCompletionsAPI(base_url=f"{address}/completions", model=model, tokenizer=tokenizer, tokenizer_backend="huggingface",
                             add_bos_token=True, max_length=512, batch_size=4, num_concurrent=1)
    asked = []
    inner = lm._loglikelihood_tokens

    def listen(requests, **kwargs):
        found = inner(requests, **kwargs)
        asked.extend({"ids": context + answer, "start": len(context), "harness": value, "greedy": greedy}
                     for (_, context, answer), (value, greedy) in zip(requests, found))
        return found

    lm._loglikelihood_tokens = listen
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = lm_eval.simple_evaluate(lm, tasks=["local_items"], task_manager=manager, limit=items, bootstrap_iters=0)
    return {name: value for name, value in results["results"]["local_items"].items() if isinstance(value, float)}, asked


def deno(task, *args, **kwargs):
    return subprocess.Popen([os.environ.get("DENO", "deno"), "task", "-q", task, *args], cwd=ROOT, stdout=subprocess.PIPE,
                            text=True, **kwargs)


def main():
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options, flags = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1:]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "local_items.yaml").write_text(TASK.format(data=options.data.resolve()))
        server = deno("serve", "--port", "0", "--quiet", *flags, start_new_session=True)
        try:
            line = server.stdout.readline()
            address, names = line.split(" on ")[1].split(",")[0], line.split('"')[1::2]
            found = {name: evaluate(address, name, options.tokenizer, folder, options.items) for name in names}
        finally:
            os.killpg(server.pid, signal.SIGINT)  # a task is several processes
            server.wait()
        report, worst = {}, 0.0
        for name, (accuracies, asked) in found.items():
            path = Path(folder) / "asked.json"
            path.write_text(json.dumps({"dense": name != names[0], "asked": asked}))
            run = subprocess.run([os.environ.get("DENO", "deno"), "run", "-A", *std_flags(),
                                  "experiments/tools/verify/lm_eval_scores.ts", str(path), *flags],
                                 cwd=ROOT, capture_output=True, text=True, check=True)
            own = json.loads(run.stdout)
            gaps = [abs(x["harness"] - y) for x, y in zip(asked, own, strict=True)]
            worst = max(worst, *gaps)
            report[name] = {**accuracies, "requests": len(asked), "largestDifference": max(gaps),
                            "meanLogLikelihood": sum(own) / len(own)}
        text = json.dumps({"lm_eval": version("lm_eval"), "data": options.data.name, "items": options.items, "flags": flags, "models": report}, indent=1)
        print(text)
        if options.out:
            options.out.write_text(text + "\n")
        sys.exit(0 if worst <= TOLERANCE else 1)


def std_flags():
    run = subprocess.run([os.environ.get("DENO", "deno"), "run", "-A", "--no-config", "--no-lock", ".std/flags.ts"], cwd=ROOT,
                         capture_output=True, text=True, check=True)
    return run.stdout.split()


if __name__ == "__main__":
    main()
