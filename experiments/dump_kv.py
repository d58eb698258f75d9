"""Dumps one layer's keys and values from a Hugging Face model, for `deno task filter --kv`.

    python3 experiments/dump_kv.py MODEL TEXT_FILE OUT.safetensors [--layer N] [--dtype float32|float16|bfloat16]

Needs torch, transformers and safetensors. The tensors `keys` (after rotary embedding) and `values` have the shape
[T, H, d]: tokens, KV heads, head size.
"""

import argparse

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def layer_cache(past_key_values, layer):
    """Keys and values of a layer, [1, H, T, d] each, from the cache of any version of transformers."""
    if hasattr(past_key_values, "layers"):
        return past_key_values.layers[layer].keys, past_key_values.layers[layer].values
    return past_key_values[layer][0], past_key_values[layer][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name on the hub, or a folder")
    parser.add_argument("text", help="UTF-8 text file")
    parser.add_argument("out", help="file to write")
    parser.add_argument("--layer", type=int, default=0, help="0-based index (0)")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model).eval()
    with open(args.text, encoding="utf-8") as file:
        ids = tokenizer(file.read(), return_tensors="pt").input_ids
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    keys, values = (x[0].transpose(0, 1).to(getattr(torch, args.dtype)).contiguous() for x in layer_cache(cache, args.layer))
    save_file({"keys": keys, "values": values}, args.out, metadata={"model": args.model, "layer": str(args.layer)})
    print(f"{args.out}: {keys.shape[0]} tokens, {keys.shape[1]} KV heads of {keys.shape[2]}, layer {args.layer}")


if __name__ == "__main__":
    main()
