"""PyTorch's scaled_dot_product_attention for `deno task bench`.

Takes one JSON object a line on stdin and answers with one on stdout; numbers travel in raw float32 files. Ends with
code 1, saying nothing, where there is no torch.
"""

import json
import sys
import time

try:
    import torch
except Exception:  # not installed, or an installation that does not load
    sys.exit(1)


def load(folder, name, heads, head_dim):
    """[rows, heads, head_dim] from a file, as the [1, heads, rows, head_dim] that torch wants."""
    numbers = torch.from_file(f"{folder}/{name}", size=size_of(f"{folder}/{name}"), dtype=torch.float32).clone()
    return numbers.view(-1, heads, head_dim).transpose(0, 1).unsqueeze(0).contiguous()


def size_of(path):
    with open(path, "rb") as file:
        return file.seek(0, 2) // 4


def prepare(ask):
    """A function that computes the call once."""
    q = load(ask["folder"], "queries", ask["numHeads"], ask["headDim"])
    k = load(ask["folder"], "keys", ask["numKvHeads"], ask["headDim"])
    v = load(ask["folder"], "values", ask["numKvHeads"], ask["headDim"])
    options = {"is_causal": ask["phase"] == "prefill"}
    if ask["heads"] == "grouped":
        options["enable_gqa"] = True
    else:  # copied beforehand: the copy is not timed
        group = ask["numHeads"] // ask["numKvHeads"]
        k, v = (x.repeat_interleave(group, dim=1).contiguous() for x in (k, v))
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)


def main():
    torch.set_num_threads(int(sys.argv[1]))
    calls = []

    def answer(ask):
        if ask["do"] == "prepare":
            calls.append(prepare(ask))
            return {"id": len(calls) - 1}
        call = calls[ask["id"]]
        if ask["do"] == "output":
            with open(ask["folder"] + "/out", "wb") as file:
                file.write(bytes(call()[0].transpose(0, 1).contiguous().flatten().untyped_storage()))
            return {}
        start = time.perf_counter()
        for _ in range(ask["repeats"]):
            call()
        return {"timeMs": (time.perf_counter() - start) * 1000}

    print(json.dumps({"version": torch.__version__}), flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            try:
                result = answer(json.loads(line))
            except Exception as error:  # told to the other side, which stops
                result = {"error": str(error).splitlines()[0]}
            print(json.dumps(result), flush=True)


main()
