"""PyTorch's scaled_dot_product_attention and linear for `deno task bench`, on the CPU or a GPU.

usage: torch_calls.py cpu|cuda THREADS

Takes one JSON object a line on stdin and answers with one on stdout; numbers travel in raw files of `folder`. Ends with
code 1, saying nothing, where there is no torch for the device.
  {"do": "prepare", "op": "attention", "dtype", "batch", "asking", "rows", "heads", "kvHeads", "dim", "folder"?}
  {"do": "prepare", "op": "linear", "dtype", "rows", "n", "k"}: {"names": of variants}
  {"do": "output", "name", "folder"}: attention's output goes to the file "out"
  {"do": "time", "name"}: {"timeMs"} of one computation; on a GPU by events, with the level-2 cache overwritten before
"""

import contextlib
import json
import sys
import time
import warnings

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    DEVICE, CUDA = sys.argv[1], sys.argv[1] == "cuda"
    if CUDA and not torch.cuda.is_available():
        sys.exit(1)
except Exception:  # not installed, or an installation that does not load
    sys.exit(1)

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
LEAST_MS = 30  # a turn on the CPU repeats a short computation for about this long
variants = {}


def tensor(ask, name, heads, rows, dtype):
    """[batch, heads, rows, dim] from a file of [rows, heads, dim], or random."""
    if "folder" not in ask:
        return torch.randn(ask["batch"], heads, rows, ask["dim"], device=DEVICE, dtype=DTYPES[dtype])
    with open(f"{ask['folder']}/{name}", "rb") as file:
        numbers = torch.frombuffer(bytearray(file.read()), dtype=DTYPES[dtype])
    return numbers.view(1, rows, heads, ask["dim"]).transpose(1, 2).contiguous().to(DEVICE)


def attention(ask):
    q = tensor(ask, "queries", ask["heads"], ask["asking"], "f32").to(DTYPES[ask["dtype"]])
    k, v = (tensor(ask, name, ask["kvHeads"], ask["rows"], ask["dtype"]) for name in ("keys", "values"))
    causal, attend = ask["asking"] > 1, torch.nn.functional.scaled_dot_product_attention
    grouped = lambda: attend(q, k, v, is_causal=causal, enable_gqa=True)
    if not CUDA:  # heads that are copied beforehand: the copy is not timed
        many = [x.repeat_interleave(ask["heads"] // ask["kvHeads"], dim=1).contiguous() for x in (k, v)]
        return {"grouped heads": grouped, "repeated heads": lambda: attend(q, *many, is_causal=causal)}

    def by(backend):
        def call():
            with sdpa_kernel(backend) if backend is not None else contextlib.nullcontext():
                return grouped()

        return call

    names = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
    backends = {name: getattr(SDPBackend, value, None) for name, value in names.items()}
    return {"default": grouped, **{name: by(backend) for name, backend in backends.items() if backend is not None}}


def linear(ask):
    x, weight = (torch.randn(n, ask["k"], device=DEVICE, dtype=DTYPES[ask["dtype"]]) for n in (ask["rows"], ask["n"]))
    return {"linear": lambda: torch.nn.functional.linear(x, weight)}


def measure(call):
    if CUDA:
        # Large, so that the device is busy until the host has enqueued the turn.
        torch.empty(512 * 2**20, dtype=torch.uint8, device=DEVICE).zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)
    start, repeats = time.perf_counter(), 0
    while True:
        call()
        repeats += 1
        spent = (time.perf_counter() - start) * 1000
        if spent >= LEAST_MS:
            return spent / repeats


def prepare(ask):
    variants.clear()
    for name, call in {"attention": attention, "linear": linear}[ask["op"]](ask).items():
        try:
            for _ in range(3):
                call()
            variants[name] = call
        except RuntimeError:  # a kernel that does not take this call, or this device
            pass
    return {"names": list(variants)}


def answer(ask):
    if ask["do"] == "prepare":
        return prepare(ask)
    call = variants[ask["name"]]
    if ask["do"] == "time":
        return {"timeMs": measure(call)}
    with open(ask["folder"] + "/out", "wb") as file:
        file.write(bytes(call()[0].transpose(0, 1).contiguous().float().cpu().flatten().untyped_storage()))
    return {}


warnings.filterwarnings("ignore")
torch.set_num_threads(int(sys.argv[2]))
print(json.dumps({"version": torch.__version__}), flush=True)
with torch.inference_mode():
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except Exception as error:  # told to the other side, which stops
            result = {"error": (str(error).splitlines() or [repr(error)])[0]}
        print(json.dumps(result), flush=True)
