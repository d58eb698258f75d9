"""Times llama.cpp through llama-cpp-python: prefill of a prompt and greedy decode, medians of several runs.

usage: python3 llama_cpp_speed.py MODEL.gguf [--threads 2] [--prompt 512] [--decode 128] [--runs 5] [--all-logits]
       (needs llama-cpp-python and numpy)

n_batch = n_ubatch = the prompt's length, CPU only. Prefill asks for the logits of the last token alone, as a prompt
does, or with --all-logits for all, as scoring does; decode is one token at a time, the argmax included.
Prints JSON: { prefillTimeMs, decodeTimeMs, prefillTokensPerS, decodeTokensPerS, … }, like llama_cpp_speed.mjs.
"""
import argparse
import json
import statistics
import time

import llama_cpp
import numpy as np


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("model")
    for flag, value in dict(threads=2, prompt=512, decode=128, runs=5).items():
        a.add_argument("--" + flag, type=int, default=value)
    a.add_argument("--all-logits", action="store_true")
    a = a.parse_args()
    llama = llama_cpp.Llama(a.model, n_ctx=a.prompt + a.decode + 8, n_batch=a.prompt, n_ubatch=a.prompt,
                            n_threads=a.threads, n_threads_batch=a.threads, n_gpu_layers=0, verbose=False,
                            logits_all=a.all_logits)
    vocab = llama.n_vocab()
    tokens = [300 + (i * 7919) % (vocab - 300) for i in range(a.prompt)]

    def best():
        logits = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (vocab,)).argmax())

    def run():
        llama.reset()
        start = time.perf_counter()
        llama.eval(tokens)
        token = best()
        first = time.perf_counter()
        for _ in range(a.decode):
            llama.eval([token])
            token = best()
        return (first - start) * 1e3, (time.perf_counter() - first) * 1e3

    run()
    times = [run() for _ in range(a.runs)]
    prefill, decode = (statistics.median(t[i] for t in times) for i in (0, 1))
    print(json.dumps(dict(engine="llama-cpp-python " + llama_cpp.__version__, threads=a.threads, prefillTimeMs=prefill,
                          decodeTimeMs=decode, prefillTokensPerS=a.prompt / prefill * 1e3,
                          decodeTokensPerS=a.decode / decode * 1e3, runs=times)))


if __name__ == "__main__":
    main()
