"""Scores the items of an evaluation by lm-evaluation-harness with transformers, and compares log-likelihoods.

usage: python3 harness_items.py MODEL.gguf DATA eval.json [--out GOLDEN.json]
       (needs torch, transformers, gguf, accelerate, datasets, lm_eval 0.4.13; no network)

eval.json is what `deno task eval --data DATA` left: tasks and items are taken from it, prompts are not. They are the
harness's own, from its YAML files, on the rows of DATA brought back to the form of the public data sets. The GGUF is
dequantised to float32 by transformers. Exits with 1 where a log-likelihood is more than 1e-3 (relative) away, or a choice
or greedy continuation is another. --out writes the harness's numbers.
"""
import argparse
import json
import os
import sys
import tempfile

import lm_eval
import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

from hf_gguf import load

TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
TOLERANCE = 1e-3


def labelled(row):
    labels = [chr(ord("A") + i) for i in range(len(row["choices"]))]
    return {"choices": {"text": row["choices"], "label": labels}, "answerKey": labels[row["gold"]]}


def winogrande(row):
    start = os.path.commonprefix(row["query_prefixes"])
    first, second = (prefix[len(start):] for prefix in row["query_prefixes"])
    sentence = f"{start}_ {row['suffix']}"
    return {"sentence": sentence, "option1": first, "option2": second, "answer": str(row["gold"] + 1)}


def boolq(row):
    passage, question = row["query"].removeprefix("Passage: ").rsplit("\nQuestion: ", 1)
    return {"passage": passage, "question": question.removesuffix("?"), "label": row["gold"]}


# Of each task: the harness's YAML file, and from a row to what it reads.
FORMS = {
    "arc_easy": ("arc/arc_easy.yaml", lambda r: {"question": r["query"], **labelled(r)}),
    "arc_challenge": ("arc/arc_challenge.yaml", lambda r: {"question": r["query"], **labelled(r)}),
    "hellaswag": ("hellaswag/hellaswag.yaml", lambda r: {**r, "label": str(r["gold"])}),
    "piqa": ("piqa/piqa.yaml", lambda r: dict(zip(("goal", "sol1", "sol2", "label"), (r["query"], *r["choices"], r["gold"])))),
    "winogrande": ("winogrande/default.yaml", winogrande),
    "boolq": ("super_glue/boolq/default.yaml", boolq),
    "openbookqa": ("openbookqa/openbookqa.yaml", lambda r: {"question_stem": r["query"], **labelled(r)}),
    "lambada_openai": ("lambada/lambada_openai.yaml", lambda r: {"text": f"{r['context']} {r['target']}"}),
    "mmlu": ("mmlu/default/mmlu_{subject}.yaml", dict),
    "mmlu_5shot": ("mmlu/default/mmlu_{subject}.yaml", dict),
}


def read(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def write(folder, name, rows):
    path = os.path.join(folder, f"{name}.jsonl")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def score(lm, name, rows, examples):
    """The harness's numbers of rows of one YAML file."""
    file, form = FORMS[name]
    config = load_yaml(os.path.join(TASKS, file.format(subject=rows[0].get("subject"))))
    config.pop("process_docs", None)  # the data's HellaSwag is processed
    for split in ("training_split", "validation_split", "fewshot_split"):
        config.pop(split, None)
    with tempfile.TemporaryDirectory() as folder:
        files = {"test": write(folder, "test", map(form, rows))}
        if examples:
            files["dev"] = write(folder, "dev", map(form, examples))
            config["fewshot_split"] = "dev"
        shots = 5 if name == "mmlu_5shot" else 0
        config.update(dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": files}, test_split="test", num_fewshot=shots)
        task = ConfigurableTask(config=config, cache_dir=folder)
        task.build_all_requests(rank=0, world_size=1)
        found = lm.loglikelihood(task.instances, disable_tqdm=True)
    by_doc = {}
    for instance, result in zip(task.instances, found):
        by_doc.setdefault(instance.doc_id, {})[instance.idx] = result
    out = []
    for i, row in enumerate(rows):
        results = [by_doc[i][j] for j in sorted(by_doc[i])]
        plain = results[0] if name == "lambada_openai" else results
        metrics = task.process_results(task.test_docs()[i], [plain] if name == "lambada_openai" else results)
        out.append({
            "task": name,
            "id": row["id"],
            "logLikelihoods": [float(ll) for ll, _ in results],
            "greedy": [bool(greedy) for _, greedy in results],
            "metrics": {key: float(value) for key, value in metrics.items() if key in ("acc", "acc_norm", "perplexity")},
        })
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "data", "eval"):
        a.add_argument(name)
    a.add_argument("--out")
    a = a.parse_args()
    tokenizer, model = load(a.model)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    with open(a.eval, encoding="utf-8") as f:
        ours = json.load(f)["items"]
    golden, worst, wrong = [], 0, 0
    for name in dict.fromkeys(item["task"] for item in ours):
        items = {item["id"]: item["dense"] for item in ours if item["task"] == name}
        rows = read(os.path.join(a.data, "mmlu.jsonl" if name.startswith("mmlu") else f"{name}.jsonl"))
        groups = {}
        for row in rows:
            if row["id"] in items:
                groups.setdefault(row.get("subject"), []).append(row)
        found = []
        for subject, own in groups.items():
            found += score(lm, name, own, [row for row in rows if row.get("split") == "dev" and row["subject"] == subject])
        away, other = 0, 0
        for item in found:
            mine, theirs = items[item["id"]], item["logLikelihoods"]
            away = max([away, *(abs(x - y) / abs(y) for x, y in zip(mine["logLikelihoods"], theirs, strict=True))])
            best = lambda values: values.index(max(values))
            other += best(mine["logLikelihoods"]) != best(theirs) or mine["greedy"] != item["greedy"]
        print(f"{name}: {len(found)} items, largest relative difference {away:.1e}, {other} with another choice", flush=True)
        golden += found
        worst, wrong = max(worst, away), wrong + other
    if a.out:
        made = {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__, "torch": torch.__version__, "model": os.path.basename(a.model)}
        with open(a.out, "w", encoding="utf-8") as f:
            f.write(json.dumps({"madeBy": "experiments/tools/verify/harness_items.py", **made, "items": golden}, indent=1) + "\n")
    sys.exit(worst > TOLERANCE or wrong > 0)


if __name__ == "__main__":
    main()
