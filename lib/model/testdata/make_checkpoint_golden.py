"""Writes checkpoint_golden.json: small random checkpoints of each architecture, and the logits that Hugging Face
transformers computes of them in float64.
usage: pip install torch==2.15.0 transformers==5.24.0 gguf==0.19.0 numpy==2.4.6,
       then python3 make_checkpoint_golden.py > checkpoint_golden.json

Weights are not stored: a generator that `checkpoints.ts` has too makes them from their names. Names in GGUF files are
those of the Python package `gguf`.
"""
import base64
import json
import re
import sys
import tempfile
import zlib
from importlib.metadata import version

import gguf
import numpy
import torch
import transformers

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MLP, VOCAB, LAYERS, TOKENS = 32, 4, 2, 8, 24, 48, 4, 40
POSITIONS = [0, 1, 3, 7, 8, 9, 15, 22, 31, 39]
SIZES = dict(hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, intermediate_size=MLP,
             vocab_size=VOCAB, num_hidden_layers=LAYERS, max_position_embeddings=64, rms_norm_eps=1e-3,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)
LONG = dict(rope_type="longrope", short_factor=[1.0, 1.5, 2.0], long_factor=[1.5, 3.0, 6.0])


def rope(kind, theta=100.0, **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **more))


# name: (class, config, what to load it with, name of the architecture in GGUF files)
CASES = {
    "llama": ("Llama", dict(rope("default"), tie_word_embeddings=True), {}, "llama"),
    "llama-linear-biases": ("Llama", dict(rope("linear", factor=4.0), attention_bias=True, mlp_bias=True), {}, "llama"),
    "llama-dynamic": ("Llama", dict(rope("dynamic", factor=4.0), max_position_embeddings=16), {"contextLength": TOKENS}, None),
    "llama-yarn": ("Llama", rope("yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0), {}, None),
    "llama-3.1": ("Llama", rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                original_max_position_embeddings=32), {}, None),
    "mistral": ("Mistral", dict(rope("default"), sliding_window=8, head_dim=HEAD_DIM), {}, None),
    "qwen2": ("Qwen2", dict(rope("default"), use_sliding_window=True, sliding_window=8, max_window_layers=2), {}, None),
    "qwen2-tied": ("Qwen2", dict(rope("default"), tie_word_embeddings=True), {}, "qwen2"),
    "qwen3": ("Qwen3", dict(rope("default"), head_dim=16), {}, "qwen3"),
    "phi3": ("Phi3", dict(rope("default"), sliding_window=None), {}, "phi3"),
    "phi3-short": ("Phi3", dict(rope_parameters=dict(LONG, rope_theta=100.0, partial_rotary_factor=0.75,
                                                     original_max_position_embeddings=48),
                                original_max_position_embeddings=48, sliding_window=24), {}, "phi3"),
    "phi3-long": ("Phi3", dict(rope_parameters=dict(LONG, rope_theta=100.0, partial_rotary_factor=0.75,
                                                    original_max_position_embeddings=16),
                               original_max_position_embeddings=16, sliding_window=None), {"contextLength": 64}, "phi3"),
    "gemma3": ("Gemma3", dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=8, rope_parameters=dict(
        sliding_attention=dict(rope_type="default", rope_theta=50.0),
        full_attention=dict(rope_type="linear", rope_theta=400.0, factor=8.0)),
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]), {}, None),
    "gemma3-pattern": ("Gemma3", dict(head_dim=16, query_pre_attn_scalar=16, sliding_window=8, num_hidden_layers=6), {}, "gemma3"),
    "smollm3": ("SmolLM3", dict(rope("default"), tie_word_embeddings=True), {}, "smollm3"),
}


def values(name, shape):
    """Numbers in [-1, 1) by a linear congruential generator, whose seed is the name's CRC-32."""
    state, out = zlib.crc32(name.encode()), numpy.empty(shape, numpy.float64).reshape(-1)
    for i in range(out.size):
        state = (state * 1664525 + 1013904223) % 2**32
        out[i] = state / 2**31 - 1
    out = out.reshape(shape)
    if len(shape) == 2:
        out = out * (3 / shape[1]) ** 0.5 * 1.5
    return torch.from_numpy(out.astype(numpy.float32))


def tensors_of(model, config, kind):
    """Shapes of the tensors outside the blocks and of the first block, and their names in a GGUF file."""
    first = {name: list(p.shape) for name, p in model.named_parameters() if not re.match(r"model\.layers\.[1-9]", name)}
    if kind is None:
        return {name: [shape] for name, shape in first.items()}
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    mapping = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    return {name: [shape, mapping.get_name(name, try_suffixes=(".weight", ".bias"))] for name, shape in first.items()}


def make(name, kind, own, options, gguf_kind):
    prefix = {"Gemma3": "Gemma3Text"}.get(kind, kind)
    config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **own})
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = json.load(open(f"{folder}/config.json"))
    with torch.no_grad():
        tensors = dict(model.named_parameters())
        for tensor, parameter in tensors.items():
            base = values(f"{name} {tensor}", tuple(parameter.shape))
            norm = parameter.dim() == 1 and "norm" in tensor
            parameter.copy_(base / 4 + (0 if not norm or kind == "Gemma3" else 1) if parameter.dim() == 1 else base)
        model = model.double().eval()
        model.config._attn_implementation = "eager"
        ids = [(i * i * 7 + i * 31 + 5) % VOCAB for i in range(TOKENS)]
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    assert logits.dtype == torch.float64 and logits.isfinite().all()
    size = logits.square().mean().sqrt().item()
    print(f"{name}: {sum(p.numel() for p in tensors.values())} weights, logits of size {size:.2f}", file=sys.stderr)
    return {
        "config": saved,
        "options": options,
        "gguf": gguf_kind,
        "tensors": tensors_of(model, config, gguf_kind),
        "logits": base64.b64encode(logits[POSITIONS].numpy().astype("<f4").tobytes()).decode(),
    }


def main():
    tools = ["torch", "transformers", "gguf", "numpy"]
    head = {
        "source": "Hugging Face transformers in float64; " + ", ".join(f"{name} {version(name)}" for name in tools),
        "units": "logits: [positions, vocabSize], base64 of little-endian float32; tensors: shape, name in GGUF files",
        "positions": POSITIONS,
        "tokens": TOKENS,
        "vocabSize": VOCAB,
    }
    cases = {name: make(name, *case) for name, case in CASES.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    print(f'{json.dumps(head)[:-1]}, "cases": {{\n{lines}\n}}}}')


if __name__ == "__main__":
    main()
