"""Writes tiny_golden.json: what the built-in model computes, by Hugging Face transformers in float64.
usage: pip install torch==2.15.0 transformers==5.24.0 gguf==0.19.0 accelerate==1.15.0 numpy==2.4.6,
       then python3 make_tiny_golden.py > tiny_golden.json

transformers reads the GGUF file itself: weights, sizes, rotary base and tokenizer. Its Llama falls back to float32 in
two places, which are replaced here: the norm by torch.nn.RMSNorm, the rotary angles by their formula. The untouched
model's losses must agree to 5e-5.
"""
import base64
import json
import os
import sys
from importlib.metadata import version

import torch
from transformers import AutoTokenizer, GgufConfig, LlamaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "../tiny")
PROSE = os.path.join(HERE, "../../eval/text/prose.txt")
FILE = "tiny-llama-4.8m.Q8_0.gguf"
# What tokenizers stumble over, a page whose states are kept, and as many tokens as the model was trained on.
TEXTS = [
    "It was 7 o'clock -- \"Why, Élise?\" she asked.\nNo answer (not even 42 birds).",
    "\"Cut down an avenue! What a pity! Does it not make you think of Cowper? 'Ye fallen avenues, once more I mourn "
    "your fate unmerited.'\"\nHe smiled as he answered, \"I am afraid the avenue stands a bad chance, Fanny.\"\n"
    "\"I should like to see Sotherton before it is cut down, to see the place as it is now, in its old state; but I do "
    "not suppose I shall.\"\n\"Have you never been there? No",
    open(PROSE, encoding="utf-8").read()[:1800],
]
STATES_OF = 1  # the text whose states and logits are kept, at these positions
POSITIONS = [1, 23, 119]
LAYERS = [0, 4, 9]  # whose keys and values are kept
TOP = 16


def to_float64(model):
    """Replaces what transformers computes in float32 whatever the type of the weights."""
    eps, theta = model.config.rms_norm_eps, model.config.rope_parameters["rope_theta"]
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "LlamaRMSNorm":
                norm = torch.nn.RMSNorm(child.weight.numel(), eps=eps, dtype=torch.float64)
                norm.weight = child.weight
                setattr(parent, name, norm)

    class Rotary(torch.nn.Module):
        def forward(self, x, position_ids):
            d = model.config.head_dim
            frequency = theta ** -(torch.arange(0, d, 2, dtype=torch.float64) / d)
            angle = position_ids[..., None].double() * frequency
            angle = torch.cat((angle, angle), -1)
            return angle.cos(), angle.sin()

    model.model.rotary_emb = Rotary()


def losses(logits, ids):
    return -logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]


def f32(tensor):
    return base64.b64encode(tensor.contiguous().numpy().astype("<f4").tobytes()).decode()


def pairs(heads):
    """[.., head size] from transformers' order of halves to GGUF's, in which rotary pairs lie side by side."""
    return heads.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def main():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, gguf_file=FILE)
    model = LlamaForCausalLM.from_pretrained(
        FOLDER, gguf_file=FILE, quantization_config=GgufConfig(dequantize=True), dtype=torch.float64,
        attn_implementation="sdpa")
    sequences = [torch.tensor([tokenizer(text).input_ids]) for text in TEXTS]
    with torch.no_grad():
        untouched = [losses(model(ids).logits[0], ids) for ids in sequences]
        to_float64(model)
        results = [model(ids, output_hidden_states=True, use_cache=True) for ids in sequences]
    texts = []
    for text, ids, result, other in zip(TEXTS, sequences, results, untouched):
        nll = losses(result.logits[0], ids)
        assert result.logits.dtype == torch.float64
        if (off := (nll - other).abs().max()) > 5e-5:
            sys.exit(f"Cannot trust the float64 losses: found {off:.1e} between them and the untouched model's, expected 5e-5")
        texts.append({"text": text, "ids": ids[0].tolist(), "nll": [round(x, 8) for x in nll.tolist()]})

    states, logits = results[STATES_OF], results[STATES_OF].logits[0]
    cache = states.past_key_values.layers
    kept = lambda x: x[0].transpose(0, 1)[POSITIONS]  # [1, heads, T, d] -> [positions, heads, d]
    top = logits[POSITIONS].topk(TOP, -1)
    tools = ["torch", "transformers", "gguf", "accelerate", "numpy"]
    out = {
        "source": f"Hugging Face transformers' LlamaForCausalLM in float64 on {FILE}; "
        + ", ".join(f"{name} {version(name)}" for name in tools),
        "units": "nll[i]: nats, of ids[i + 1] given ids[0..i]; states: base64 of little-endian float32",
        "texts": texts,
        "states": {
            "text": STATES_OF,
            "positions": POSITIONS,
            # entering each layer, [positions, hiddenSize]; then after the final norm
            "residual": [f32(x[0, POSITIONS]) for x in states.hidden_states[:-1]],
            "hidden": f32(states.hidden_states[-1][0, POSITIONS]),
            # [positions, numKvHeads, headDim], keys after rotary embedding
            "keys": {str(l): f32(pairs(kept(cache[l].keys))) for l in LAYERS},
            "values": {str(l): f32(kept(cache[l].values)) for l in LAYERS},
            "topIds": top.indices.tolist(),
            "topLogits": [[round(x, 7) for x in row] for row in top.values.tolist()],
            # over the whole vocabulary
            "logitSums": [round(x, 5) for x in logits[POSITIONS].sum(-1).tolist()],
            "logitSquares": [round(x, 4) for x in logits[POSITIONS].square().sum(-1).tolist()],
        },
    }
    print(json.dumps(out, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
