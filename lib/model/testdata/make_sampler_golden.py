"""Writes sampler_golden.json: which tokens Hugging Face transformers leaves under sampling options, and how likely each is.
usage: pip install torch==2.15.0 transformers==5.24.0, then python3 make_sampler_golden.py > sampler_golden.json
Logits are made by a formula that sampler_test.ts has too.
"""
import json
from importlib.metadata import version

import torch
from transformers.generation.logits_process import (MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                                                    TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

SIZE = 127
PROMPT = [3, 14, 15, 92, 65, 3, 101]
CASES = [
    {},
    {"temperature": 0.7},
    {"temperature": 2.5},
    {"topK": 1},
    {"topK": 7},
    {"topK": 126, "temperature": 3},
    {"topP": 0.9},
    {"topP": 0.05},
    {"topP": 0.999, "temperature": 4},
    {"minP": 0.1},
    {"minP": 0.02, "temperature": 1.7},
    {"repetitionPenalty": 1.3},
    {"repetitionPenalty": 0.8, "topK": 20},
    {"topK": 40, "topP": 0.8},
    {"topK": 40, "topP": 0.95, "minP": 0.3, "temperature": 1.5},
    {"topK": 25, "topP": 0.9, "minP": 0.05, "temperature": 0.6, "repetitionPenalty": 1.1},
]


def logits(seed):
    values = [((i * 7 + seed * 31) % SIZE) / SIZE for i in range(SIZE)]
    return torch.tensor([[16 * v * v - 6 for v in values]], dtype=torch.float64)


def processors(options):
    if "repetitionPenalty" in options:
        yield RepetitionPenaltyLogitsProcessor(float(options["repetitionPenalty"]))
    yield TemperatureLogitsWarper(float(options.get("temperature", 1)))
    if "topK" in options:
        yield TopKLogitsWarper(options["topK"])
    if "topP" in options:
        yield TopPLogitsWarper(float(options["topP"]))
    if "minP" in options:
        yield MinPLogitsWarper(float(options["minP"]))


def main():
    cases = []
    for seed, options in enumerate(CASES):
        scores = logits(seed)
        for processor in processors(options):
            scores = processor(torch.tensor([PROMPT]), scores)
        probabilities = torch.softmax(scores, -1)[0]
        ids = [i for i in range(SIZE) if scores[0, i] > -float("inf")]
        cases.append({"seed": seed, "options": options, "ids": ids,
                      "probabilities": [float(f"{probabilities[i]:.10g}") for i in ids]})
    source = f"transformers {version('transformers')}, torch {version('torch')}"
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    print(f'{{"source": "{source}", "prompt": {json.dumps(PROMPT)}, "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
