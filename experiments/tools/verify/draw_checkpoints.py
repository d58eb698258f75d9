"""Draws small random models of every architecture with configs of every form, saves each as a folder, and computes logits.

usage: python3 draw_checkpoints.py SEED COUNT FOLDER       (needs torch and transformers; the same cases of the same seed)

Each case is a folder that transformers has saved and whose config.json is then written in its own form: as it is, in the
older form (rope_theta, rope_scaling), or with keys left out that transformers has defaults for. transformers loads it again
and computes its logits in float64. FOLDER/cases.json: a list of {name, form, left, contextLength, ids, logits}, base64 of
float32; a folder that transformers refuses is not in it.
"""
import base64
import json
import os
import random
import sys

import numpy
import torch
import transformers

TOKENS = 40
KINDS = ["Llama", "Mistral", "Qwen2", "Qwen3", "Phi3", "Gemma3", "SmolLM3"]
# What a config.json may leave out without another shape of any tensor.
OPTIONAL = [
    "attention_bias", "hidden_act", "hidden_activation", "layer_types", "max_window_layers", "mlp_bias", "no_rope_layer_interval",
    "no_rope_layers", "original_max_position_embeddings", "query_pre_attn_scalar", "rope_parameters", "sliding_window",
    "_sliding_window_pattern", "tie_word_embeddings", "use_sliding_window",
]


def draw_rope(rng, kind, pairs, positions):
    theta = rng.choice([50.0, 1e3, 1e4])
    if kind == "Phi3":
        if rng.random() < 0.4:
            return {"rope_type": "default", "rope_theta": theta}, positions
        factors = {name: [round(rng.uniform(1, 6), 3) for _ in range(pairs)] for name in ("short_factor", "long_factor")}
        return {"rope_type": "longrope", "rope_theta": theta, **factors}, rng.choice([16, 48])
    first = rng.choice([8, 16, 32])
    parameters = rng.choice([
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": rng.choice([2.0, 4.0])},
        {"rope_type": "dynamic", "factor": rng.choice([2.0, 4.0])},
        {"rope_type": "yarn", "factor": rng.choice([2.0, 4.0]), "original_max_position_embeddings": first},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": first},
    ])
    return {**parameters, "rope_theta": theta}, positions


def draw_config(rng, kind):
    kv_heads, head_dim, layers = rng.choice([1, 2]), rng.choice([4, 8, 12]), rng.choice([2, 3, 5])
    heads, partial = kv_heads * rng.choice([1, 2, 3]), 1.0
    own = dict(
        hidden_size=heads * head_dim, num_attention_heads=heads, num_key_value_heads=kv_heads, num_hidden_layers=layers,
        intermediate_size=rng.choice([16, 24, 40]), vocab_size=rng.choice([48, 67]), max_position_embeddings=64,
        rms_norm_eps=rng.choice([1e-6, 1e-3]), tie_word_embeddings=rng.random() < 0.5,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )
    if kind == "Phi3":
        partial = rng.choice([0.5, 1.0])
    parameters, first = draw_rope(rng, kind, int(head_dim * partial) // 2, 64)
    if kind == "Phi3":
        parameters["partial_rotary_factor"] = partial
        # transformers 5.2 takes the factor beside the other sizes alone.
        own.update(original_max_position_embeddings=first, sliding_window=rng.choice([None, 9]), partial_rotary_factor=partial)
    if parameters["rope_type"] == "dynamic":
        own.update(max_position_embeddings=rng.choice([16, 64]))
    own.update(rope_parameters=parameters)
    if kind in ("Llama", "SmolLM3"):
        own.update(attention_bias=rng.random() < 0.3, mlp_bias=rng.random() < 0.3)
    if kind in ("Mistral", "Qwen3", "Gemma3"):
        own.update(head_dim=rng.choice([4, 8, 16]))
    if kind == "Mistral":
        own.update(sliding_window=rng.choice([None, 7]))
    if kind in ("Qwen2", "Qwen3", "SmolLM3"):
        own.update(use_sliding_window=rng.random() < 0.5, sliding_window=rng.choice([5, 9]))
    if kind in ("Qwen2", "Qwen3"):
        own.update(max_window_layers=rng.choice([0, 1, 28]))
    if kind == "SmolLM3":
        own.update(no_rope_layer_interval=rng.choice([2, 3, 4]))
    if kind == "Gemma3":
        local = {"rope_type": "default", "rope_theta": rng.choice([30.0, 1e4])}
        plain = parameters["rope_type"] in ("default", "linear")
        full = parameters if plain else {"rope_type": "default", "rope_theta": parameters["rope_theta"]}
        own.update(query_pre_attn_scalar=rng.choice([8, 24, 256]), sliding_window=rng.choice([5, 9]),
                   rope_parameters={"sliding_attention": local, "full_attention": full},
                   layer_types=rng.choice([None, [rng.choice(["sliding_attention", "full_attention"]) for _ in range(layers)]]))
        own["max_position_embeddings"] = 64
    return own


def to_older(config):
    parameters = config.pop("rope_parameters")
    if "full_attention" in parameters:
        config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = parameters["full_attention"]
    parameters = dict(parameters)
    config["rope_theta"] = parameters.pop("rope_theta")
    partial = parameters.pop("partial_rotary_factor", None)
    if partial is not None:
        config["partial_rotary_factor"] = partial
    parameters.pop("original_max_position_embeddings", None) if "original_max_position_embeddings" in config else None
    if parameters["rope_type"] != "default":
        config["rope_scaling"] = parameters


def make(seed, index, folder):
    rng = random.Random(f"{seed}/{index}")
    kind = KINDS[index % len(KINDS)]
    own, form = draw_config(rng, kind), rng.choice(["saved", "older", "sparse", "sparse"])
    config = getattr(transformers, f"{kind}TextConfig" if kind == "Gemma3" else f"{kind}Config")(**own)
    model_class = getattr(transformers, f"{kind}ForCausalLM")
    model = model_class(config)
    values = numpy.random.default_rng([seed, index])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            scale = 1.5 / shape[-1] ** 0.5 if len(shape) == 2 else 0.25
            offset = 1 if len(shape) == 1 and "norm" in name and kind != "Gemma3" else 0
            parameter.copy_(torch.from_numpy(values.normal(size=shape).astype(numpy.float32) * scale + offset))
    name = f"{index:03d}-{kind.lower()}"
    path = f"{folder}/{name}"
    model.save_pretrained(path)
    saved = json.load(open(f"{path}/config.json"))
    left = []
    if form == "older":
        to_older(saved)
    if form == "sparse":
        there = [key for key in OPTIONAL if key in saved]
        left = sorted(rng.sample(there, rng.randint(1, min(4, len(there)))))
        for key in left:
            del saved[key]
    with open(f"{path}/config.json", "w") as file:
        json.dump(saved, file)
    ids = [1] + [rng.randrange(own["vocab_size"]) for _ in range(TOKENS - 1)]
    case = {"name": name, "form": form, "left": left, "ids": ids}
    if own["rope_parameters"].get("rope_type") in ("dynamic", "longrope"):
        case["contextLength"] = TOKENS
    try:
        loaded, info = model_class.from_pretrained(path, attn_implementation="eager", output_loading_info=True)
        if info["missing_keys"]:
            raise ValueError(f"made {info['missing_keys']} up")
        loaded = loaded.double().eval()
        with torch.no_grad():
            logits = loaded(torch.tensor([ids]), use_cache=False).logits[0]
    except Exception as error:  # what transformers itself refuses is no case
        print(f"{name}: transformers: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return {**case, "logits": base64.b64encode(logits.numpy().astype("<f4").tobytes()).decode()}


def main():
    seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.makedirs(folder, exist_ok=True)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    cases = [case for i in range(count) if (case := make(seed, i, folder)) is not None]
    with open(f"{folder}/cases.json", "w") as file:
        json.dump(cases, file)


if __name__ == "__main__":
    main()
