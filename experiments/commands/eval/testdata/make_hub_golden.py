"""Writes hub/: small files in the form of the tasks' data sets on the hub, and hub_golden.json: lm-evaluation-harness's requests of them.

usage: python3 make_hub_golden.py
       (needs datasets, lm_eval 0.4.13; no network)
"""
import json
import os

import datasets
import lm_eval
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

HERE = os.path.dirname(os.path.abspath(__file__))
TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")


def choices(*texts, numeric=False):
    return {"text": list(texts), "label": [str(i + 1) if numeric else chr(ord("A") + i) for i in range(len(texts))]}


def mmlu(subject, question, options, answer):
    return {"question": question, "subject": subject, "choices": options, "answer": answer}


HELLASWAG = {"ind": 1, "source_id": "s", "split": "val", "split_type": "indomain"}
ARC = [
    {"id": "q1", "question": "What melts?", "choices": choices("ice", "stone", "sand"), "answerKey": "A"},
    {"id": "q2", "question": "Which is hot?", "choices": choices("snow", "fire", numeric=True), "answerKey": "2"},
]
DEV = [mmlu("marketing", f" Dev {i}?", ["w", "x", "y", "z"], i % 4) for i in range(5)]
# Of each task: the harness's YAML file, and the files of the hub with their rows.
FILES = {
    "arc_easy": ("arc/arc_easy.yaml", {"ARC-Easy/test-00000-of-00001.parquet": ARC}),
    "arc_challenge": ("arc/arc_challenge.yaml", {"ARC-Challenge/test-00000-of-00001.parquet": ARC[::-1]}),
    "hellaswag": (
        "hellaswag/hellaswag.yaml",
        {
            "data/validation-00000-of-00001.parquet": [
                {**HELLASWAG, "activity_label": "Baking [header] bread", "ctx_a": "A man is  kneading.", "ctx_b": "the DOUGH", "ctx": "", "endings": ["rises [substeps] slowly.", " sings [title] loudly"], "label": "0"},
                {**HELLASWAG, "activity_label": "Rowing", "ctx_a": "[header] How to row [title] Sit.", "ctx_b": "", "ctx": "", "endings": ["pull", "push", "sleep"], "label": "2"},
            ]
        },
    ),
    "piqa": ("piqa/piqa.yaml", {"piqa_validation.parquet": [{"goal": "Dry hair.", "sol1": "Use a towel. ", "sol2": "Use a spoon.", "label": 0}, {"goal": "Cut paper", "sol1": "soap", "sol2": "scissors", "label": 1}]}),
    "winogrande": (
        "winogrande/default.yaml",
        {"winogrande_xl/validation-00000-of-00001.parquet": [{"sentence": "The cup would not fit in the box as the _ was too big.", "option1": "cup", "option2": "box", "answer": "1"}, {"sentence": "He fed the cat and not the dog, for _ was hungry .", "option1": "the cat", "option2": "the dog", "answer": "2"}]},
    ),
    "boolq": ("super_glue/boolq/default.yaml", {"boolq/validation-00000-of-00001.parquet": [{"question": "is ice cold", "passage": "Ice is frozen water.", "idx": 0, "label": 1}, {"question": "is fire cold", "passage": "Fire burns.", "idx": 1, "label": 0}]}),
    "openbookqa": ("openbookqa/openbookqa.yaml", {"main/test-00000-of-00001.parquet": [{"id": "7-1", "question_stem": "The sun is", "choices": choices("a star", "a fish", "cold", "wet"), "answerKey": "A"}]}),
    "lambada_openai": ("lambada/lambada_openai.yaml", {"data/lambada_test.jsonl": [{"text": "She opened the door and saw the sea"}, {"text": "He said: \"wait\" and left her"}]}),
    "mmlu": ("mmlu/default/mmlu_marketing.yaml", {"all/test-00000-of-00001.parquet": [mmlu("marketing", "What sells?\n", ["a", "b", "c", "d"], 2)], "all/dev-00000-of-00001.parquet": DEV}),
}


def main():
    golden = {}
    for name, (file, files) in FILES.items():
        paths = []
        for path, rows in files.items():
            full = os.path.join(HERE, "hub", name, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            data = datasets.Dataset.from_list(rows)
            data.to_json(full) if path.endswith(".jsonl") else data.to_parquet(full)
            paths.append(full)
        config = load_yaml(os.path.join(TASKS, file))
        for split in ("training_split", "validation_split", "fewshot_split"):
            config.pop(split, None)
        kind = "json" if paths[0].endswith(".jsonl") else "parquet"
        config.update(dataset_path=kind, dataset_name=None, dataset_kwargs={"data_files": {"test": paths[0]}}, test_split="test", num_fewshot=0)
        task = ConfigurableTask(config=config)
        task.build_all_requests(rank=0, world_size=1)
        golden[name] = [{"doc": one.doc_id, "context": one.args[0], "continuation": one.args[1], "gold": 0 if name == "lambada_openai" else target(task, one.doc)} for one in task.instances]
    with open(os.path.join(HERE, "hub_golden.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps({"madeBy": "experiments/commands/eval/testdata/make_hub_golden.py", "lm_eval": lm_eval.__version__, "datasets": datasets.__version__, "requests": golden}, indent=1) + "\n")


def target(task, doc):
    """Index of the right choice; WinoGrande's has the texts for choices."""
    text, found = task.doc_to_text(doc), task.doc_to_target(doc)
    return text if isinstance(text, int) else int(found)


if __name__ == "__main__":
    main()
