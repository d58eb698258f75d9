"""Another engine on a whole model, for `deno task bench --peers`: llama.cpp, or PyTorch through transformers.

usage: bench_peers.py llama.cpp|PyTorch MODEL THREADS POSITIONS
       MODEL: a .gguf file, or (PyTorch) a folder as transformers saves models; POSITIONS: tokens of the longest run

Takes one JSON object a line on stdin, {ids, tokens}: prefills the first `tokens` of the ids, then feeds the others one by
one. Each timed step ends with the logits of its last token. Answers {prefillMs, decodeMs, losses}: the losses are -ln p of
each id behind the prefill, by which the other side sees that both compute the same. Ends with code 1, saying nothing,
where the engine is not installed.
"""

import json
import os
import sys
import time

engine, path, threads, positions = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
try:
    import numpy as np

    if engine == "llama.cpp":
        import llama_cpp
    else:
        import torch
        import transformers
except Exception:  # not installed, or an installation that does not load
    sys.exit(1)


def open_llama():
    if not path.endswith(".gguf"):
        raise ValueError("llama.cpp reads .gguf files alone")
    llama = llama_cpp.Llama(path, n_ctx=positions, n_batch=min(positions, 2048), n_ubatch=512, n_threads=threads,
                            n_threads_batch=threads, n_gpu_layers=0, verbose=False)
    vocabulary = llama.n_vocab()

    def start():
        llama.reset()

        def feed(ids):
            llama.eval(ids)
            return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), (vocabulary,)).copy()

        return feed

    return f"llama.cpp (llama-cpp-python {llama_cpp.__version__})", start


def open_torch():
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder, file = os.path.split(path) if path.endswith(".gguf") else (path, None)
    extra = {} if file is None else {"gguf_file": file}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True, **extra)
    model.eval()

    def start():
        cache = None

        def feed(ids):
            nonlocal cache
            with torch.inference_mode():
                out = model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            return out.logits[0, -1].numpy()

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
