"""Writes pruning_golden.json: what methods that alter a model keep of the small random checkpoint "llama" of
make_checkpoint_golden.py, and the logits that transformers then computes, in float64.
usage: the packages of make_checkpoint_golden.py, then python3 make_pruning_golden.py > pruning_golden.json

Written from the papers and the authors' code, apart from this project's: hooks see what enters the modules, what goes is
zeroed by masks, nothing is made smaller. A KV head goes with its query heads.
"""
import base64
import json
import sys
from importlib.metadata import version

import torch
import transformers

import make_checkpoint_golden as base

NAME, RATIO = "llama", 0.5
GROUP = base.HEADS // base.KV_HEADS
CHUNKS = [[(i * i * 5 + i * 17 + seed) % base.VOCAB for i in range(60)] for seed in (3, 11)]
IDS = [(i * i * 7 + i * 31 + 5) % base.VOCAB for i in range(base.TOKENS)]


def build():
    kind, own, _, _ = base.CASES[NAME]
    config = getattr(transformers, f"{kind}Config")(**{**base.SIZES, **own})
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for tensor, parameter in model.named_parameters():
            drawn = base.values(f"{NAME} {tensor}", tuple(parameter.shape))
            parameter.copy_(drawn / 4 + int("norm" in tensor) if parameter.dim() == 1 else drawn)
    model.config._attn_implementation = "eager"
    return model.double().eval()


def modules(layer):
    return {"o": layer.self_attn.o_proj, "down": layer.mlp.down_proj}


def inputs(model, wanted):
    """What enters modules on the calibration text, [tokens, columns] each."""
    seen = {module: [] for module in wanted}
    hooks = [module.register_forward_pre_hook(lambda m, args: seen[m].append(args[0].detach()[0])) for module in wanted]
    for chunk in CHUNKS:
        model(torch.tensor([chunk]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return {module: torch.cat(rows) for module, rows in seen.items()}


def columns_of(groups):
    width = GROUP * base.HEAD_DIM
    return torch.tensor([g * width + i for g in groups for i in range(width)], dtype=torch.long)


def mask(layer, groups, channels, bias=None):
    """Zeroes the columns of what goes."""
    for name, keep in (("o", columns_of(groups)), ("down", torch.tensor(channels))):
        module = modules(layer)[name]
        gone = torch.ones(module.in_features, dtype=torch.bool)
        gone[keep] = False
        if bias is not None:
            module.bias = torch.nn.Parameter(module.weight[:, gone] @ bias[name][gone])
        module.weight[:, gone] = 0


def flap(model):
    layers = model.model.layers
    seen = inputs(model, [m for layer in layers for m in modules(layer).values()])
    metric, means = {"o": [], "down": []}, []
    for layer in layers:
        means.append({})
        for name, module in modules(layer).items():
            x = seen[module]
            own = x.var(0, unbiased=False) * module.weight.pow(2).sum(0)
            own = own**2 if name == "o" else own
            own = (own - own.mean()) / own.std()
            metric[name].append(own.reshape(base.KV_HEADS, -1).mean(1) if name == "o" else own)
            means[-1][name] = x.mean(0)
    heads, channels = torch.stack(metric["o"]), torch.stack(metric["down"])
    pool = torch.cat([heads.flatten(), channels.flatten()])
    price = torch.ones_like(pool)
    price[:heads.numel()] = (2 * GROUP + 2) * base.HEAD_DIM / 3
    order = pool.argsort(descending=True)
    threshold = pool[order[(price[order].cumsum(0) - price.sum() * (1 - RATIO)).abs().argmin()]]
    kept = []
    for i, layer in enumerate(layers):
        groups = [g for g in range(base.KV_HEADS) if heads[i, g] > threshold] or [heads[i].argmax().item()]
        stays = [c for c in range(base.MLP) if channels[i, c] > threshold] or [channels[i].argmax().item()]
        mask(layer, groups, stays, means[i])
        kept.append([groups, stays])
    return kept


def highest(scores, ratio):
    order = scores.argsort(stable=True)[int(ratio * len(scores)):]
    return sorted(order.tolist())


def wanda_sp(model):
    kept = []
    for layer in model.model.layers:
        seen = inputs(model, modules(layer).values())
        score = {name: module.weight.abs().mean(0) * seen[module].pow(2).mean(0).sqrt() for name, module in modules(layer).items()}
        groups, channels = highest(score["o"].reshape(base.KV_HEADS, -1).sum(1), RATIO), highest(score["down"], RATIO)
        mask(layer, groups, channels)
        kept.append([groups, channels])
    return kept


METHODS = {"flap": flap, "wanda-sp": wanda_sp}


def main():
    cases = {}
    with torch.no_grad():
        for name, prune in METHODS.items():
            model = build()
            kept = prune(model)
            logits = model(torch.tensor([IDS]), use_cache=False).logits[0]
            assert logits.isfinite().all()
            print(name, kept, logits.square().mean().sqrt().item(), file=sys.stderr)
            packed = logits[base.POSITIONS].numpy().astype("<f4").tobytes()
            cases[name] = {"kept": kept, "logits": base64.b64encode(packed).decode()}
    head = {
        "source": "masks in transformers, float64; " + ", ".join(f"{tool} {version(tool)}" for tool in ("torch", "transformers")),
        "units": "kept: [KV heads, MLP channels] a layer; logits as in checkpoint_golden.json",
        "checkpoint": NAME,
        "ratio": RATIO,
        "chunks": CHUNKS,
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    print(f'{json.dumps(head)[:-1]}, "cases": {{\n{lines}\n}}}}')


if __name__ == "__main__":
    main()
