"""Writes a model's next-token log-probabilities by Hugging Face transformers, as truth for compare_logits.ts.

usage: python3 hf_logprobs.py MODEL.gguf TEXT.txt OUT.safetensors [--positions 500]
       (needs torch, transformers, gguf, accelerate and safetensors)

The GGUF is dequantised to float32 by transformers (`gguf_file`), the softmax is taken in float64. OUT holds `logprobs`
[positions, vocabSize] float32; the token ids, the first of the text and without BOS, are JSON in the metadata `ids`.
"""
import argparse
import json
import os

import torch
from safetensors.torch import save_file

from hf_gguf import load


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "text", "out"):
        a.add_argument(name)
    a.add_argument("--positions", type=int, default=500)
    a = a.parse_args()
    tokenizer, model = load(a.model)
    with open(a.text, encoding="utf-8", newline="") as f:
        ids = tokenizer(f.read(100 * a.positions), add_special_tokens=False)["input_ids"][:a.positions]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    nll = -logprobs[:-1].gather(1, torch.tensor(ids[1:])[:, None]).mean()
    save_file({"logprobs": logprobs.float()}, a.out, {"ids": json.dumps(ids), "model": os.path.basename(a.model)})
    print(f"{len(ids)} positions, perplexity {nll.exp():.5f}")


if __name__ == "__main__":
    main()
