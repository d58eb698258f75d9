"""Another engine on a whole model, for `deno task bench --peers`: llama.cpp, or PyTorch through transformers.

usage: peers.py llama.cpp|PyTorch MODEL cpu|cuda THREADS POSITIONS [probe]
       MODEL: a .gguf file, or (PyTorch) a folder as transformers saves models; POSITIONS: tokens of the longest run;
       probe: this process may end at its first prefill

Takes one JSON object a line on stdin, {ids, tokens}: prefills the first `tokens` of the ids, then feeds the others one by
one. Each timed step ends with the logits of its last token. Answers {prefillMs, decodeMs, losses}: the losses are -ln p of
each id behind the prefill, by which the other side sees that both compute the same. Ends with code 1, saying nothing,
where the engine is not installed.
"""

import json
import os
import subprocess
import sys
import time

engine, path, device = sys.argv[1:4]
threads, positions = int(sys.argv[4]), int(sys.argv[5])
try:
    import numpy as np

    if engine == "llama.cpp":
        import llama_cpp
    else:
        import torch
        import transformers
except Exception:  # not installed, or an installation that does not load
    sys.exit(1)


def runs_repacked():
    """Whether llama.cpp runs with weights in layouts of its own: those for AMX end it on some machines."""
    question = json.dumps({"ids": [1] * 34, "tokens": 32})
    probe = [sys.executable, __file__, engine, path, device, str(threads), "64", "probe"]
    return subprocess.run(probe, input=question, capture_output=True, text=True).returncode == 0


def open_llama():
    if device == "cuda" and not llama_cpp.llama_supports_gpu_offload():
        raise ValueError("llama-cpp-python is a build for the CPU, expected CUDA")
    if not path.endswith(".gguf"):
        raise ValueError("llama.cpp reads .gguf files alone")
    repacked = sys.argv[6:] == ["probe"] or runs_repacked()
    if not repacked:
        defaults = llama_cpp.llama_model_default_params

        def plain():
            params = defaults()
            params.use_extra_bufts = False
            return params

        llama_cpp.llama_cpp.llama_model_default_params = plain  # which Llama() calls
    llama = llama_cpp.Llama(path, n_ctx=positions, n_batch=min(positions, 2048), n_ubatch=512, n_threads=threads,
                            n_threads_batch=threads, n_gpu_layers=-1 if device == "cuda" else 0, verbose=False)
    vocabulary = llama.n_vocab()

    def start():
        llama.reset()

        def feed(ids):
            llama.eval(ids)
            return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), (vocabulary,)).copy()

        return feed

    layouts = "" if repacked else ", weights not repacked"
    return f"llama.cpp (llama-cpp-python {llama_cpp.__version__}{layouts})", start


def open_torch():
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch has no CUDA device")
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder, file = os.path.split(path) if path.endswith(".gguf") else (path, None)
    extra = {} if file is None else {"gguf_file": file}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True, **extra)
    model.eval().to(device)

    def start():
        cache = None

        def feed(ids):
            nonlocal cache
            with torch.inference_mode():
                out = model(input_ids=torch.tensor([ids], device=device), past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            return out.logits[0, -1].cpu().numpy()

        return feed

    return f"PyTorch {torch.__version__} (transformers {transformers.__version__}, f32)", start


def loss(logits, target):
    wide = logits.astype(np.float64)
    top = wide.max()
    return float(top + np.log(np.exp(wide - top).sum()) - wide[target])


def answer(start, ids, tokens):
    feed, times, logits = start(), [], []
    for at, end in [(0, tokens)] + [(t, t + 1) for t in range(tokens, len(ids) - 1)]:
        begin = time.perf_counter()
        logits.append(feed(ids[at:end]))
        times.append((time.perf_counter() - begin) * 1000)
    losses = [loss(row, ids[tokens + i]) for i, row in enumerate(logits)]
    return {"prefillMs": times[0], "decodeMs": times[1:], "losses": losses}


def main():
    try:
        name, start = open_llama() if engine == "llama.cpp" else open_torch()
    except Exception as error:  # told to the other side, which goes on without
        print(json.dumps({"error": f"{engine}: {(str(error).splitlines() or [repr(error)])[0]}"}), flush=True)
        return
    print(json.dumps({"name": name}), flush=True)
    for line in sys.stdin:
        try:
            result = answer(start, **json.loads(line))
        except Exception as error:
            result = {"error": (str(error).splitlines() or [repr(error)])[0]}
        print(json.dumps(result), flush=True)


main()
