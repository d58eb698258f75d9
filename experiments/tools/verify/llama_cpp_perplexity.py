"""llama.cpp's token ids of a text, and its perplexity by the protocol of its own tools/perplexity.

usage: python3 llama_cpp_perplexity.py MODEL.gguf TEXT --lib DIR [--context 512] [--chunks 40] [--threads 2] > OUT.json
       python3 llama_cpp_perplexity.py MODEL.gguf TEXT --lib DIR --chunks 0 > OUT.json     (ids alone)
       DIR holds libllama*.so and libggml*.so: bins/linux-x64 of the npm package @node-llama-cpp/linux-x64, or lib of
       llama-cpp-python. Needs numpy.

Disjoint chunks of `context` tokens, a new KV cache each, the first token of each replaced by BOS where the vocabulary
adds one, the second half of each scored: context / 2 - 1 tokens. Prints JSON: { engine, addsBos, ids, chunks: [the
chunk's summed loss in nats, …], tokens, perplexity }. `compare_perplexity.ts` holds the toolkit to it.
"""
import argparse
import ctypes as c
import glob
import json
import os
import sys

import numpy as np


class Params(c.Structure):
    """llama_context_params: its first fields, and room for those that later releases add (passed by value)."""
    _fields_ = [("n_ctx", c.c_uint32), ("n_batch", c.c_uint32), ("n_ubatch", c.c_uint32), ("n_seq_max", c.c_uint32),
                ("rest", c.c_uint8 * 496)]


class ModelParams(c.Structure):
    _fields_ = [("all", c.c_uint8 * 512)]


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p),
                ("pos", c.POINTER(c.c_int32)), ("n_seq_id", c.POINTER(c.c_int32)),
                ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


def open_library(folder):
    find = lambda name: sorted(glob.glob(os.path.join(folder, name)))[0]
    c.CDLL(find("libggml-base*.so*"), mode=c.RTLD_GLOBAL)
    ggml = c.CDLL(find("libggml.*so*"), mode=c.RTLD_GLOBAL)
    ggml.ggml_backend_load_all_from_path(folder.encode())
    llama = c.CDLL(find("libllama.*so*"), mode=c.RTLD_GLOBAL)
    for name, result, *args in [
        ("llama_model_default_params", ModelParams), ("llama_context_default_params", Params),
        ("llama_model_load_from_file", c.c_void_p, c.c_char_p, ModelParams),
        ("llama_init_from_model", c.c_void_p, c.c_void_p, Params),
        ("llama_model_get_vocab", c.c_void_p, c.c_void_p), ("llama_vocab_n_tokens", c.c_int32, c.c_void_p),
        ("llama_vocab_get_add_bos", c.c_bool, c.c_void_p), ("llama_vocab_bos", c.c_int32, c.c_void_p),
        ("llama_tokenize", c.c_int32, c.c_void_p, c.c_char_p, c.c_int32, c.c_void_p, c.c_int32, c.c_bool, c.c_bool),
        ("llama_get_memory", c.c_void_p, c.c_void_p), ("llama_memory_clear", None, c.c_void_p, c.c_bool),
        ("llama_batch_init", Batch, c.c_int32, c.c_int32, c.c_int32), ("llama_decode", c.c_int32, c.c_void_p, Batch),
        ("llama_set_n_threads", None, c.c_void_p, c.c_int32, c.c_int32),
        ("llama_get_logits_ith", c.POINTER(c.c_float), c.c_void_p, c.c_int32),
    ]:
        function = getattr(llama, name)
        function.restype, function.argtypes = result, args
    llama.llama_backend_init()
    return llama


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("model")
    a.add_argument("text")
    a.add_argument("--lib", required=True)
    for flag, value in dict(context=512, chunks=40, threads=2).items():
        a.add_argument("--" + flag, type=int, default=value)
    a = a.parse_args()
    llama = open_library(a.lib)
    model = llama.llama_model_load_from_file(a.model.encode(), llama.llama_model_default_params())
    vocab = llama.llama_model_get_vocab(model)
    size, bos = llama.llama_vocab_n_tokens(vocab), llama.llama_vocab_bos(vocab)
    adds_bos = llama.llama_vocab_get_add_bos(vocab)
    text = open(a.text, "rb").read()
    ids = np.zeros(len(text) + 8, np.int32)
    count = llama.llama_tokenize(vocab, text, len(text), ids.ctypes.data, len(ids), True, False)
    ids = ids[:count]
    out = dict(engine=os.path.basename(glob.glob(os.path.join(a.lib, "libllama.*so*"))[0]), addsBos=adds_bos,
               ids=ids.tolist(), chunks=[])
    if a.chunks > 0:
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = a.context
        context, batch = llama.llama_init_from_model(model, params), llama.llama_batch_init(a.context, 0, 1)
        llama.llama_set_n_threads(context, a.threads, a.threads)
        first = a.context // 2
        for chunk in range(min(a.chunks, count // a.context)):
            part = ids[chunk * a.context:(chunk + 1) * a.context].copy()
            if adds_bos:
                part[0] = bos
            llama.llama_memory_clear(llama.llama_get_memory(context), True)
            batch.n_tokens = a.context
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = int(token), i, 1, 0
                batch.logits[i] = int(i >= first)
            if llama.llama_decode(context, batch) != 0:
                raise SystemExit("llama_decode failed")
            loss = 0.0
            for i in range(first, a.context - 1):
                row = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), (size,)).astype(np.float64)
                top = row.max()
                loss += top + np.log(np.exp(row - top).sum()) - row[part[i + 1]]
            out["chunks"].append(loss)
            print(f"chunk {chunk + 1}: {np.exp(loss / (a.context - 1 - first)):.4f}", file=sys.stderr)
        out["tokens"] = len(out["chunks"]) * (a.context - 1 - first)
        out["perplexity"] = float(np.exp(sum(out["chunks"]) / out["tokens"]))
    print(json.dumps(out))


main()
