"""Token Filtering inside transformers: decides live, by keys and values as they come, and masks what is filtered.

    from transformers_filter import filtered
    with filtered(model, skip_ratios=[0, 0.5, 0.5, 0.5], fusion="variance"):
        model.generate(ids, max_new_tokens=64)

skip_ratios has one ratio per layer, 0 = not filtered. side="query" skips the attention of tokens, whose keys and values stay;
side="both" evicts these too, after the recent window; side="key" evicts and skips no query. Options are those of make_spec() in
filter.py, which must lie next to this file. Needs transformers 4.51 or later, and batches of one without padding. The model
keeps its cache, so memory does not fall: see docs/guides/use-in-your-engine.md. As a program it scores lists of token ids:

    python3 transformers_filter.py MODEL IDS.json OPTIONS.json OUT.json
"""

import contextlib
import json
import sys

import numpy as np
import torch
import transformers
from transformers import AttentionInterface

if __package__:
    from .filter import Layer, Library, make_spec
else:
    from filter import Layer, Library, make_spec

NAME = "tokenfilter"


def decided_at(positions, spec):
    """From which position on no query sees an evicted key: the first block start beyond its recent window."""
    after = positions + spec.recent
    return np.where(after < spec.warmup, spec.warmup, after + spec.block - after % spec.block)


class Sequence:
    """What the layers of one sequence remember."""

    def __init__(self, library, skip_ratios, side, options):
        self.library, self.skip_ratios, self.side, self.options = library, skip_ratios, side, options
        self.layers, self.keep = {}, {}

    def decide(self, layer, keys, values, start):
        """Decides new tokens [n, kv_heads, d] of a layer that begin at position `start`. @returns all of its decisions"""
        if start == 0:
            spec = make_spec(*keys.shape[1:], layer=layer, skip_ratio=self.skip_ratios[layer], **self.options)
            self.layers[layer], self.keep[layer] = Layer(self.library, spec), np.zeros(0, np.uint8)
        if len(self.keep[layer]) != start:
            raise ValueError(f"Cannot go on at position {start}: found decisions of {len(self.keep[layer])} tokens")
        new, _ = self.layers[layer].decide(keys, values)
        self.keep[layer] = np.concatenate([self.keep[layer], new])
        return self.keep[layer]

    def attend(self, module, query, key, value, attention_mask, scaling=None, sliding_window=None, **_):
        """The attention function: query [1, heads, new, d], key and value [1, kv_heads, all, d]."""
        if len(query) != 1:
            raise ValueError(f"Cannot filter a batch of {len(query)}: expected one sequence")
        new, total, layer = query.shape[2], key.shape[2], module.layer_idx
        start = total - new
        positions = torch.arange(total, device=query.device)
        queries = positions[start:, None]
        visible = positions <= queries
        if sliding_window is not None:
            visible &= positions > queries - sliding_window
        skipped = np.zeros(new, bool)
        if self.skip_ratios[layer] == 0:
            self.keep[layer] = np.ones(total, np.uint8)  # not filtered
        else:
            rows = [x[0, :, start:].transpose(0, 1).float().contiguous().cpu().numpy() for x in (key, value)]
            keep = self.decide(layer, *rows, start)
            spec, at = self.layers[layer].spec, np.arange(total)
            ends = decided_at(at, spec) if self.side == "key" else at + spec.recent + 1
            ends = torch.from_numpy(np.where(keep == 1, np.iinfo(np.int64).max, ends)).to(query.device)
            if self.side != "query":
                visible &= queries < ends
            if self.side != "key":
                skipped = keep[start:] == 0
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
        ).transpose(1, 2)
        return out.masked_fill(torch.from_numpy(skipped).to(query.device)[None, :, None, None], 0).contiguous(), None


@contextlib.contextmanager
def filtered(model, skip_ratios, side="both", library=None, **options):
    """Filters the model's attention in this block. A sequence begins with each call without a cache."""
    layers = model.config.get_text_config().num_hidden_layers
    if len(skip_ratios) != layers:
        raise ValueError(f"Cannot filter {layers} layers: found {len(skip_ratios)} ratios")
    if side not in ("both", "query", "key"):
        raise ValueError(f'Cannot filter side "{side}": expected both, query or key')
    sequence = Sequence(library or Library(), skip_ratios, side, options)
    AttentionInterface.register(NAME, sequence.attend)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield sequence
    finally:
        model.set_attn_implementation(before)


def main(name, ids_path, options_path, out_path):
    with open(ids_path) as file:
        chunks = json.load(file)
    with open(options_path) as file:
        options = json.load(file)
    model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
    losses = []
    with torch.no_grad(), filtered(model, **options):
        for ids in chunks:
            logits = model(torch.tensor([ids])).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").tolist())
    with open(out_path, "w") as file:
        json.dump(losses, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
