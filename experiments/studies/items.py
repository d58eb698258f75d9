"""Makes the item files of the studies: the first COUNT items of each task after a fixed shuffle.

    python3 experiments/studies/items.py SOURCES DATA [COUNT]

Needs no package. SOURCES has clones of public repositories, each a folder with the name of its repository, at the commits below.
HellaSwag's text is to be unpacked (`bunzip2`). Exact duplicates are removed before the shuffle. COUNT is 500 by default. The digest of the
first 400 items is that of the committed studies; a source that leads to another one is refused.
"""

import hashlib
import json
import os
import random
import sys

SEED = 20261125
# Digests of files with 400 items.
DIGESTS = {
    "arc_easy": "0714c33c0cc406548a474e9ecf46b77c49bcdb27c904a6ebbff1baaa80eff1fc",
    "arc_challenge": "2e7ce95db4c56b3276f2bb55541889b2e295c381befb5c8cf967d7f375dcc284",
    "hellaswag": "0a9df4f29ac055454c6734fbdb2573b58ef3ebeb3688ab24284ed4befc44636e",
    "piqa": "3fe3e5c1feec3055a5d0f2a387a229e8e4f2b6bc21573d834d94b8b89b559dc5",
    "winogrande": "53872aa2cb3e2033645a602b4d202f5aa877025f62a651a413505b4d09d96375",
    "boolq": "58fbed22bd93dd5d2d13b1595c36322c6e3c8a145435bc22cd513e0128d04bf8",
    "openbookqa": "6346d8b034b9e29e08a54716f5acb154dc10959c1d50b2b283b7b95c4c55f2d2",
    "lambada_openai": "17b47eed8109e383b93eb615e373a05cfb4c7e27cbb500b72b26ced5a73da1ed",
}
# Owners of the repositories, and commits.
COMMITS = {
    "GenMC": ("nju-websoft", "eada4b06"),
    "hellaswag_text_data": ("klosax", "1105d370"),
    "TEAM": ("declare-lab", "e43753fd"),
    "llm-foundry": ("mosaicml", "8c8dd48f"),
}
FOUNDRY = "llm-foundry/scripts/eval/local_data"


def fail(message):
    """Ends with one line, as every task does for what a user can fix."""
    print(" ".join(str(message).split()), file=sys.stderr)
    sys.exit(2)


def read_lines(sources, path):
    """Lines of a source."""
    try:
        with open(os.path.join(sources, path), encoding="utf-8", newline="") as file:
            return file.read().removesuffix("\n").split("\n")
    except OSError as error:
        repository = path.split("/")[0]
        owner, commit = COMMITS[repository]
        fail(f'Cannot read "{path}": {error.strerror}; expected {owner}/{repository} at {commit} in "{sources}"')


def read_arc(name, sources):
    """ARC: the answer is a choice's label."""
    for line in read_lines(sources, f"GenMC/data/{name}/official/test.jsonl"):
        item = json.loads(line)
        choices = item["question"]["choices"]
        gold = [choice["label"] for choice in choices].index(item["answerKey"])
        texts = [choice["text"] for choice in choices]
        yield {"id": f"{name}-{item['id']}", "query": item["question"]["stem"], "choices": texts, "gold": gold}


def read_hellaswag(name, sources):
    """HellaSwag: six lines an item, which are the query, the answer and four choices."""
    lines = read_lines(sources, "hellaswag_text_data/hellaswag_val_full.txt")
    for row in range(len(lines) // 6):
        query, gold, *choices = lines[6 * row : 6 * row + 6]
        yield {"id": f"{name}-{row:05}", "query": query, "choices": choices, "gold": int(gold)}


def read_piqa(name, sources):
    """PIQA: answers are in a file of their own."""
    answers = read_lines(sources, "TEAM/data/piqa/dev-labels.lst")
    for row, line in enumerate(read_lines(sources, "TEAM/data/piqa/dev.jsonl")):
        item = json.loads(line)
        choices = [item["sol1"], item["sol2"]]
        yield {"id": f"{name}-{row:05}", "query": item["goal"], "choices": choices, "gold": int(answers[row])}


def read_foundry(folder, file, names):
    """A task of llm-foundry, whose fields are renamed."""

    def read(name, sources):
        for row, line in enumerate(read_lines(sources, f"{FOUNDRY}/{folder}/{file}.jsonl")):
            item = json.loads(line)
            yield {"id": f"{name}-{row:05}", **{new: item[old] for old, new in names.items()}}

    return read


CHOICES = {"query": "query", "choices": "choices", "gold": "gold"}
TASKS = {
    "arc_easy": read_arc,
    "arc_challenge": read_arc,
    "hellaswag": read_hellaswag,
    "piqa": read_piqa,
    "winogrande": read_foundry(
        "language_understanding",
        "winogrande",
        {"context_options": "query_prefixes", "continuation": "suffix", "gold": "gold"},
    ),
    "boolq": read_foundry("reading_comprehension", "boolq", CHOICES),
    "openbookqa": read_foundry("commonsense_reasoning", "openbook_qa", CHOICES),
    "lambada_openai": read_foundry(
        "language_understanding", "lambada_openai", {"context": "context", "continuation": "target"}
    ),
}


def shuffle(items):
    """Lines of the items in the fixed order, without duplicates."""
    unlike = {}
    for item in items:
        content = json.dumps({name: value for name, value in item.items() if name != "id"})
        unlike.setdefault(content, item)
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in unlike.values()]
    random.Random(SEED).shuffle(lines)
    return lines


def main(arguments):
    if len(arguments) not in (2, 3) or not all(count.isdecimal() and int(count) > 0 for count in arguments[2:]):
        fail("Cannot make the items: expected SOURCES DATA [COUNT], a positive number of items")
    sources, data = arguments[:2]
    count = int(arguments[2]) if len(arguments) == 3 else 500
    files = {}
    for name, read in TASKS.items():
        lines = shuffle(read(name, sources))
        found = hashlib.sha256("".join(lines[:400]).encode()).hexdigest()
        if found != DIGESTS[name]:
            fail(f'Cannot use the source of {name}: found SHA-256 {found} of its 400 items, expected {DIGESTS[name]}')
        files[name] = "".join(lines[:count])
    os.makedirs(data, exist_ok=True)
    for name, text in files.items():
        with open(os.path.join(data, f"{name}.jsonl"), "w", encoding="utf-8", newline="") as file:
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
