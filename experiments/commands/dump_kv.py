"""Dumps keys and values of layers of a Hugging Face model, for `deno task filter --kv`.

    python3 experiments/commands/dump_kv.py MODEL TEXT_FILE OUT.safetensors [--layer N[,N…]|all] [--dtype float32|float16|bfloat16]
        [--queries]

Needs torch, transformers and safetensors. The tensors `keys` (after rotary embedding) and `values` have the shape
[T, H, d]: tokens, KV heads, head size. With --queries there are `queries` too, after rotary embedding, [T, heads, d], times
whatever makes 1 / sqrt(d) the factor on products; and `headWeights`, [heads]: the mean square gain of the output projection for
each head, where the layer has one. Of several layers they are named `keys.N`, `values.N`, `queries.N` and `headWeights.N`.
"""

import argparse
import os
import sys


def fail(message):
    """Ends with one line, as every task does for what a user can fix."""
    print(" ".join(str(message).split()), file=sys.stderr)
    sys.exit(2)


def read_text(path):
    """The text of a file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        fail(f'Cannot read "{path}": {error.strerror}')
    except UnicodeDecodeError:
        fail(f'Cannot read "{path}": found bytes that are not UTF-8, expected a text')


def parse_layers(text):
    """Layers by their numbers, ascending; None = all."""
    if text == "all":
        return None
    if not all(part.isdecimal() for part in text.split(",")):
        fail(f'Cannot use --layer {text}: expected 0-based indices such as 0,3, or all')
    return sorted({int(part) for part in text.split(",")})


def import_libraries():
    """What runs the model, imported once all else is checked: it takes seconds."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a log keeps every state of a bar
    try:
        import torch
        import transformers
        from safetensors.torch import save_file
    except ImportError as error:
        fail(f'Cannot run a model: found no module "{error.name}", expected torch, transformers and safetensors')
    return torch, transformers, save_file


def load(transformers, name):
    """Tokenizer and model. What is wrong with a name or a folder, transformers says in errors of many kinds."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        return tokenizer, transformers.AutoModelForCausalLM.from_pretrained(name).eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        fail(f'Cannot load the model "{name}": {str(error).strip().splitlines()[0] if str(error).strip() else repr(error)}')


def layer_cache(past_key_values, layer):
    """Keys and values of a layer, [1, H, T, d] each, from the cache of any version of transformers."""
    if hasattr(past_key_values, "layers"):
        return past_key_values.layers[layer].keys, past_key_values.layers[layer].values
    return past_key_values[layer][0], past_key_values[layer][1]


def head_weights(module, heads, size):
    """For each head the sum of squares of the output projection's entries over the head size, [heads]; None: no projection."""
    projection = getattr(module, "o_proj", None)
    return None if projection is None else projection.weight.float().pow(2).sum(0).view(heads, size).sum(1) / size


def record_queries(transformers, queries, weights):
    """Has every layer's rotated queries, [1, heads, T, d], and head weights put into dicts by layer."""
    functions = getattr(transformers, "AttentionInterface", None)
    if functions is None:
        version = getattr(transformers, "__version__", "of no version")
        fail(f"Cannot dump queries: found transformers {version}, expected one with AttentionInterface (4.51 or later)")
    attend = functions()["sdpa"]

    def record(module, query, *args, scaling=None, **named):
        size = query.shape[-1]
        weights[module.layer_idx] = head_weights(module, query.shape[1], size)
        queries[module.layer_idx] = query * (scaling * size**0.5 if scaling is not None else 1)
        return attend(module, query, *args, scaling=scaling, **named)

    functions.register("sdpa", record)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name on the hub, or a folder")
    parser.add_argument("text", help="UTF-8 text file")
    parser.add_argument("out", help="file to write")
    parser.add_argument("--layer", default="0", help="0-based indices, or all (0)")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--queries", action="store_true", help="queries too, for rules of the attention received")
    args = parser.parse_args()

    text, layers = read_text(args.text), parse_layers(args.layer)
    folder = os.path.dirname(args.out) or "."
    if os.path.isdir(args.out) or not os.access(folder, os.W_OK):
        fail(f'Cannot write "{args.out}": expected a file in a folder that can be written to')

    torch, transformers, save_file = import_libraries()
    tokenizer, model = load(transformers, args.model)
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    count = config.num_hidden_layers
    layers = list(range(count)) if layers is None else layers
    if layers[-1] >= count:
        fail(f'Cannot use --layer {args.layer}: the layers of "{args.model}" are 0 to {count - 1}')
    ids = tokenizer(text, return_tensors="pt").input_ids
    trained = getattr(config, "max_position_embeddings", None)
    if trained is not None and ids.shape[1] > trained:
        print(f"Warning: {ids.shape[1]} tokens; the model was trained on {trained}", file=sys.stderr)

    queries, weights = {}, {}
    if args.queries:
        record_queries(transformers, queries, weights)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    tensors = {}
    for layer in layers:
        found = dict(zip(("keys", "values"), layer_cache(cache, layer)))
        if args.queries:
            if layer not in queries:
                fail(f'Cannot dump queries: layer {layer} of "{args.model}" has another attention than "sdpa"')
            found["queries"] = queries[layer]
        suffix = "" if len(layers) == 1 else f".{layer}"
        for name, rows in found.items():
            tensors[name + suffix] = rows[0].transpose(0, 1).to(getattr(torch, args.dtype)).contiguous()
        if weights.get(layer) is not None:
            tensors["headWeights" + suffix] = weights[layer].contiguous()
    listed = ",".join(map(str, layers))
    save_file(tensors, args.out, metadata={"model": args.model, "layer": listed})
    tokens, heads, size = next(iter(tensors.values())).shape
    what = "layer" if len(layers) == 1 else "layers"
    print(f"{args.out}: {tokens} tokens, {heads} KV heads of {size}, {what} {listed}")


if __name__ == "__main__":
    main()
