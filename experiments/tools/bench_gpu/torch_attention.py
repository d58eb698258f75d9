"""PyTorch's scaled_dot_product_attention and linear on the GPU, and FlashInfer's attention, beside this project's kernels.

Takes one JSON object as its argument: {"phase", "dtype", "batch", "rows", "heads", "kv_heads", "dim", "turns", "folder"}, or
{"phase": "linear", "dtype", "rows", "n", "k", "turns"}. For a prefill with a folder, queries (f32), keys and values (16-bit
patterns) come from there and the output goes there. Tensors are [batch, heads, rows, dim], contiguous. Answers {"times":
[{"library", "backend", "time_ms", "spread_ms"}], "missing"}: median and 10-90 percentile distance of the turns by CUDA events,
the level-2 cache overwritten before each, for the backend that PyTorch chooses ("default"), for each of its fused ones, and for
FlashInfer; why one did not run.
"""

import contextlib
import json
import sys
import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {
    "default": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": getattr(SDPBackend, "CUDNN_ATTENTION", None),
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
TORCH = f"torch {torch.__version__}"
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}


def from_file(path, dtype, shape):
    with open(path, "rb") as file:
        return torch.frombuffer(bytearray(file.read()), dtype=dtype).reshape(shape).cuda()


def measure(run, turns):
    # Large, so that the device is busy until the host has enqueued the turn.
    flush = torch.empty(512 * 2**20, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        run()
    times = []
    for _ in range(turns):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    times.sort()
    spread = times[int(0.9 * (turns - 1))] - times[int(0.1 * (turns - 1))]
    return times[turns // 2], spread


def attend(job):
    dtype, heads, kv_heads, dim = DTYPES[job["dtype"]], job["heads"], job["kv_heads"], job["dim"]
    batch, rows, prefill = job["batch"], job["rows"], job["phase"] == "prefill"
    asked = rows if prefill else 1
    if job.get("folder"):
        q = from_file(job["folder"] + "/queries", torch.float32, (1, rows, heads, dim)).to(dtype)
        k = from_file(job["folder"] + "/keys", dtype, (1, rows, kv_heads, dim))
        v = from_file(job["folder"] + "/values", dtype, (1, rows, kv_heads, dim))
    else:
        q = torch.randn(batch, asked, heads, dim, device="cuda", dtype=dtype)
        k, v = (torch.randn(batch, rows, kv_heads, dim, device="cuda", dtype=dtype) for _ in range(2))
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    run = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=prefill, enable_gqa=True)
    if job.get("folder"):
        out = run().transpose(1, 2).contiguous().float().cpu().numpy()
        with open(job["folder"] + "/out", "wb") as file:
            file.write(out.tobytes())
    times, missing = [], []
    for name, backend in BACKENDS.items():
        if name != "default" and backend is None:
            continue
        try:
            with contextlib.nullcontext() if backend is None else sdpa_kernel(backend):
                time_ms, spread_ms = measure(run, job["turns"])
            times.append(timed(TORCH, name, time_ms, spread_ms))
        except RuntimeError as error:
            missing.append(f"{name}: {first_line(error)}")
    try:
        library, call = flashinfer_call(q, k, v, prefill)
        times.append(timed(library, "prefill" if prefill else "paged", *measure(call, job["turns"])))
    except Exception as error:  # not installed, or it compiles nothing for this device
        missing.append(f"flashinfer: {first_line(error)}")
    return {"times": times, "missing": missing}


def flashinfer_call(q, k, v, prefill):
    """A call of FlashInfer on [batch, heads, rows, dim], whose own order is [rows, heads, dim], in pages for a batch."""
    import flashinfer

    library = f"flashinfer {flashinfer.__version__}"
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    if prefill:
        return library, lambda: flashinfer.single_prefill_with_kv_cache(q[0], k[0], v[0], causal=True)
    batch, rows, kv_heads, dim = k.shape
    page, heads = 16, q.shape[2]
    pages = rows // page
    workspace = torch.empty(128 * 2**20, dtype=torch.uint8, device="cuda")
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=heads // kv_heads >= 4)
    indptr = torch.arange(batch + 1, dtype=torch.int32, device="cuda") * pages
    indices = torch.arange(batch * pages, dtype=torch.int32, device="cuda")
    last = torch.full((batch,), page, dtype=torch.int32, device="cuda")
    wrapper.plan(indptr, indices, last, heads, kv_heads, dim, page, q_data_type=q.dtype, kv_data_type=k.dtype)
    cache, query = tuple(x.view(batch * pages, page, kv_heads, dim) for x in (k, v)), q[:, 0].contiguous()
    return library, lambda: wrapper.run(query, cache)


def multiply(job):
    dtype = DTYPES[job["dtype"]]
    x = torch.randn(job["rows"], job["k"], device="cuda", dtype=dtype)
    weight = torch.randn(job["n"], job["k"], device="cuda", dtype=dtype)
    measured = measure(lambda: torch.nn.functional.linear(x, weight), job["turns"])
    return {"times": [timed(TORCH, "linear", *measured)], "missing": []}


def timed(library, backend, time_ms, spread_ms):
    return {"library": library, "backend": backend, "time_ms": time_ms, "spread_ms": spread_ms}


def first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


warnings.filterwarnings("ignore")
if not torch.cuda.is_available():
    sys.exit("torch has no CUDA device")
try:
    job = json.loads(sys.argv[1])
    print(json.dumps(multiply(job) if job["phase"] == "linear" else attend(job)))
except Exception as error:  # the caller reports it in its own words
    print(json.dumps({"error": first_line(error)}))
