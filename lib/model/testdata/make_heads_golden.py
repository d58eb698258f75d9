"""Writes heads_golden.json: scores of KV heads of small random checkpoints (make_checkpoint_golden.py), by kvpress and by
the formula of RazorAttention (arXiv 2407.15891), from the attention probabilities that transformers computes.
usage: pip install kvpress==0.5.5 gguf==0.19.0, then python3 make_heads_golden.py > heads_golden.json
"""
import json
from unittest import mock

import torch
import transformers
from kvpress import DuoAttentionPress
from kvpress.presses import duo_attention_press

import make_checkpoint_golden as checkpoints

CASES = ["llama", "llama-linear-biases", "qwen3"]
TOKENS, COPIES = 10, 4


def load(name):
    """The model of a case, with the weights that make() gives it."""
    kind, own, *_ = checkpoints.CASES[name]
    config = getattr(transformers, f"{kind}Config")(**{**checkpoints.SIZES, **own}, attn_implementation="eager")
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for tensor, parameter in dict(model.named_parameters()).items():
            base = checkpoints.values(f"{name} {tensor}", tuple(parameter.shape))
            one = 1 if "norm" in tensor else 0
            parameter.copy_(base / 4 + one if parameter.dim() == 1 else base)
    return model.double().eval()


class Text(dict):
    def to(self, _):
        return self


def duo(model, name, ids):
    """kvpress's scores on one text, whose ids are given, and the heads that its press keeps whole at one half."""
    model.config.name_or_path = name
    frame = mock.MagicMock()
    frame.to_pandas.return_value.sample.return_value.__getitem__.return_value.tolist.return_value = ["text"]
    tokenizer = mock.Mock(return_value=Text(input_ids=torch.tensor([ids])))
    with mock.patch.object(duo_attention_press, "load_dataset", lambda *_, **__: frame), \
            mock.patch.object(duo_attention_press.AutoTokenizer, "from_pretrained", lambda _: tokenizer), \
            mock.patch.object(duo_attention_press, "duo_attention_on_the_fly", one_text):
        press = DuoAttentionPress(head_compression_ratio=0.5, on_the_fly_scoring=True)
        press.post_init_from_model(model)
        return one_text(model), (~press.streaming_mask).flatten().nonzero().flatten().tolist()


plain = duo_attention_press.duo_attention_on_the_fly


def one_text(model):
    return plain(model, num_samples=1)


def razor(model, ids):
    """Mean attention of the later copies to the same token in earlier ones, and to what follows it; the largest of a group."""
    groups = model.config.num_attention_heads // model.config.num_key_value_heads
    induction, echo = [], []
    with torch.no_grad():
        attentions = model(torch.tensor([ids]), use_cache=False, output_attentions=True).attentions
    for layer in attentions:
        scores = {0: [], 1: []}
        for head in layer[0]:
            for offset, own in scores.items():
                pairs = [(i, j + offset) for i in range(TOKENS, len(ids)) for j in range(i % TOKENS, i, TOKENS)]
                own.append(sum(head[i, j].item() for i, j in pairs) / (len(ids) - TOKENS))
        for own, all in ((scores[0], echo), (scores[1], induction)):
            all.append([round(max(own[at:at + groups]), 7) for at in range(0, len(own), groups)])
    return {"induction": induction, "echo": echo}


def main():
    ids = [(i * i * 7 + i * 31 + 5) % checkpoints.VOCAB for i in range(TOKENS)] * COPIES
    cases = {}
    for name in CASES:
        model = load(name)
        scores, whole = duo(model, name, ids)
        cases[name] = {"duo": [round(x, 7) for x in scores.flatten().tolist()], "whole": whole, **razor(model, ids)}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    head = {
        "source": "kvpress 0.5.5 (duo, whole), transformers in float64 (induction, echo)",
        "ids": ids, "tokens": TOKENS, "copies": COPIES,
    }
    print(f'{json.dumps(head)[:-1]}, "cases": {{\n{lines}\n}}}}')


if __name__ == "__main__":
    main()
