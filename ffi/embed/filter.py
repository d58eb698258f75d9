"""An engine's loop on tokenfilter's filter, with ctypes and numpy: a prefill, then one token per call.

    deno task build --out DIR
    python3 DIR/filter.py CASES OUT

Uses libtokenfilter_cpu next to this file, or the library that TOKENFILTER_LIBRARY names. `Library` and `Layer` are for
import. filter.c describes CASES and OUT, and tokenfilter_filter.h the numbers of a spec.
"""

import ctypes
import os
import pathlib
import re
import sys

import numpy as np

VERSION = "3.0.0"  # of tokenfilter_filter.h, whose structs these are
LAYOUT = """\
struct tkf_filter_spec int32_t layer, heads, kv_heads, head_dim, hidden_size, recent, sinks, first_outcome; \
int32_t fusion, invert, anchor, absorb, warmup, threshold, window, chunk; int32_t block, projections, features, queries_size; \
double skip_ratio, tau, lambda, eps, alpha, gamma, theta, eta, ridge; uint64_t seed;
struct tkf_filter_states tkf_buffer anchor_k, anchor_v, numbers, scores, learned, signs;
op tkf_filter_scan tkf_filter_spec spec; tkf_filter_states states; tkf_buffer keys, values, residual, normed, queries, keep, \
columns, taken; int64_t count; int32_t kv_dtype;
op tkf_attention_filtered tkf_buffer queries, query_positions, keys, values, key_positions, recent_keys, recent_values, \
recent_positions, out; tkf_buffer key_ends, windows, kv_places, shares, changes, head_weights; int64_t num_queries, num_keys, \
num_recent, num_shares; int32_t heads, kv_heads, query_kv_heads, head_dim, kv_dtype, recent_window, sinks, share_distance; \
double scale;"""
FUSION = ["variance", "mean", "static", "key", "value", "min", "max", "product", "random"]
THRESHOLD = ["budget", "window", "robbins-monro", "fixed", "topk"]
ANCHOR, ABSORB = ["ema", "mean"], ["all", "kept"]
NUM_SLOTS, COLUMNS = 16, ["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK"]
DEFAULTS = {
    **{"recent": 16, "sinks": 4, "warmup": 32, "window": 256, "block": 32, "projections": 16, "features": 7},
    **{"skip_ratio": 0.5, "tau": 1, "eps": 1e-6, "alpha": 0.5, "gamma": 0.9, "eta": 0.1, "ridge": 1},
}


class Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_uint64)]

    @classmethod
    def of(cls, array):
        if not array.flags.c_contiguous:
            raise ValueError(f"Cannot use an array of strides {array.strides}: expected a contiguous one (np.ascontiguousarray)")
        return cls(array.ctypes.data, array.nbytes)


def make_structs():
    """The structs of LAYOUT, by name."""
    types = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "double": ctypes.c_double}
    types["tkf_buffer"] = Buffer
    for line in LAYOUT.split("\n"):
        _, name, declarations = line.split(" ", 2)
        fields = []
        for kind, names in re.findall(r"(\w+) ([\w, ]+);", declarations):
            fields += [(field, types[kind]) for field in names.split(", ")]
        types[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return types


STRUCTS = make_structs()
Spec = STRUCTS["tkf_filter_spec"]


def make_spec(kv_heads, head_dim, layer=0, **options):
    """A layer's options: names as in docs/reference/options.md with underscores, such as skip_ratio; choices by name."""
    numbers = {**DEFAULTS, **options, "layer": layer, "heads": kv_heads, "kv_heads": kv_heads, "head_dim": head_dim}
    known = [name for name, _ in Spec._fields_]
    for name in options:
        if name not in known:
            raise ValueError(f'Cannot use option "{name}": expected one of {", ".join(known)}')
    for name, choices in {"fusion": FUSION, "threshold": THRESHOLD, "anchor": ANCHOR, "absorb": ABSORB}.items():
        if isinstance(numbers.get(name), str):
            if numbers[name] not in choices:
                raise ValueError(f'Cannot use {name} "{numbers[name]}": expected one of {", ".join(choices)}')
            numbers[name] = choices.index(numbers[name])
    return Spec(**numbers)


def rows_of(name, array, shape):
    """An array of floats as contiguous float32. @param shape Its sizes; None = any"""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        raise ValueError(f'Cannot use "{name}": found numbers of type {array.dtype}, expected floats')
    if array.ndim != len(shape) or any(size not in (None, found) for size, found in zip(shape, array.shape)):
        expected = ", ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(f'Cannot use "{name}": found shape {list(array.shape)}, expected [{expected}]')
    return np.ascontiguousarray(array, np.float32)


def find_library():
    """TOKENFILTER_LIBRARY, else the library next to this file."""
    if os.environ.get("TOKENFILTER_LIBRARY"):
        return os.environ["TOKENFILTER_LIBRARY"]
    found = sorted(pathlib.Path(__file__).parent.glob("libtokenfilter_cpu.*"))
    if not found:
        raise OSError("Cannot find libtokenfilter_cpu: run deno task build --out DIR, or set TOKENFILTER_LIBRARY")
    return str(found[0])


class Library:
    """The library and a context, for one thread's calls. After a fork, make another one in the child."""

    def __init__(self, path=None, threads=1):
        self.functions = ctypes.CDLL(path or find_library())
        self.functions.tkf_abi_describe.restype = ctypes.c_char_p
        self.functions.tkf_context_message.restype = ctypes.c_char_p
        self.functions.tkf_context_message.argtypes = [ctypes.c_void_p]
        described = self.functions.tkf_abi_describe().decode().split("\n")
        other = [line for line in LAYOUT.split("\n") if line not in described]
        if other:
            raise OSError(f"Cannot use this library: its {other[0].split()[1]} is not that of version {VERSION}")
        self.context = ctypes.c_void_p()
        if self.functions.tkf_context_create(threads, -1, ctypes.byref(self.context)) != 0:
            raise OSError("Cannot make a context")

    def close(self):
        self.functions.tkf_context_destroy(self.context)

    def call(self, op, **fields):
        """Calls an op. Arrays become buffers; they must be contiguous, and stay alive through `fields`."""
        made = {name: Buffer.of(field) if isinstance(field, np.ndarray) else field for name, field in fields.items()}
        arguments = STRUCTS[op](**made)
        size = ctypes.c_uint64(ctypes.sizeof(arguments))
        if getattr(self.functions, op)(self.context, ctypes.byref(arguments), size) != 0:
            raise ValueError(self.functions.tkf_context_message(self.context).decode())

    def attend(self, queries, positions, kept, recent, recent_window):
        """Filtered attention of queries [n, heads, d]; kept and recent are (keys, values, positions)."""
        out = np.zeros_like(queries)
        names = ["keys", "values"]
        rows = {name: array for name, array in zip([*names, "key_positions"], kept)}
        rows.update({f"recent_{name}": array for name, array in zip([*names, "positions"], recent)})
        sizes = {"num_queries": len(queries), "num_keys": len(kept[2]), "num_recent": len(recent[2])}
        shape = {"heads": queries.shape[1], "kv_heads": kept[0].shape[1], "head_dim": queries.shape[2]}
        self.call("tkf_attention_filtered", queries=queries, query_positions=positions, out=out, **rows, **sizes, **shape,
                  recent_window=recent_window, scale=queries.shape[2] ** -0.5)
        return out


class Layer:
    """One filtered layer of one sequence: what it remembers, and its cache."""

    def __init__(self, library, spec):
        self.library, self.spec, self.seen = library, spec, 0
        window = {"budget": spec.window, "window": spec.window, "robbins-monro": max(spec.warmup, 2)}
        self.state = {
            "anchor_k": np.zeros((spec.kv_heads, spec.head_dim), np.float32),
            "anchor_v": np.zeros((spec.kv_heads, spec.head_dim), np.float32),
            "numbers": np.zeros(NUM_SLOTS),
            "scores": np.zeros(window.get(THRESHOLD[spec.threshold], 0)),
        }
        rows = np.zeros((0, spec.kv_heads, spec.head_dim), np.float32)
        self.kept = self.recent = (rows, rows, np.zeros(0, np.int32))

    def rows(self, keys, values):
        """Keys and values of new tokens as contiguous float32, [n, kv_heads, d] each."""
        keys = rows_of("keys", keys, (None, self.spec.kv_heads, self.spec.head_dim))
        return keys, rows_of("values", values, keys.shape)

    def decide(self, keys, values):
        """Decides new tokens by keys and values [n, kv_heads, d]: keep u8 [n], and the columns by name."""
        keys, values = self.rows(keys, values)
        count = len(keys)
        keep, columns, taken = np.zeros(count, np.uint8), np.zeros((len(COLUMNS), count)), np.zeros(1, np.int64)
        states = STRUCTS["tkf_filter_states"](**{name: Buffer.of(array) for name, array in self.state.items()})
        self.library.call("tkf_filter_scan", spec=self.spec, states=states, keys=keys, values=values, keep=keep,
                          columns=columns, taken=taken, count=count)
        return keep, dict(zip(COLUMNS, columns))

    def feed(self, keys, values, queries):
        """Decides new tokens, and computes attention of those that are kept; that of others is 0."""
        keys, values = self.rows(keys, values)
        queries = rows_of("queries", queries, (len(keys), None, self.spec.head_dim))
        keep, columns = self.decide(keys, values)
        positions = np.arange(self.seen, self.seen + len(keys), dtype=np.int32)
        visible = self.recent[2] >= self.seen - self.spec.recent
        new, is_kept = (keys, values, positions), keep == 1
        self.recent = tuple(np.concatenate([old[visible], rows[~is_kept]]) for old, rows in zip(self.recent, new))
        self.kept = tuple(np.concatenate([old, rows[is_kept]]) for old, rows in zip(self.kept, new))
        self.seen += len(keys)
        out = np.zeros_like(queries)
        out[is_kept] = self.library.attend(queries[is_kept], positions[is_kept], self.kept, self.recent, self.spec.recent)
        return keep, columns, out


def run_case(library, spec, keys, values, queries):
    """All but the last 8 tokens at once, those one by one; topk needs all of them."""
    layer, tokens = Layer(library, spec), len(keys)
    first = tokens if THRESHOLD[spec.threshold] == "topk" else max(tokens - 8, 1)
    spans = [(0, first), *((at, at + 1) for at in range(first, tokens))]
    fed = [layer.feed(keys[at:end], values[at:end], queries[at:end]) for at, end in spans]
    keep, columns, out = zip(*fed)
    return np.concatenate(keep), np.concatenate([found["redundancy"] for found in columns]), np.concatenate(out)


def main(cases, results):
    library = Library()
    with open(cases, "rb") as source, open(results, "wb") as target:
        while head := source.read(ctypes.sizeof(Spec)):
            spec = Spec.from_buffer_copy(head)
            tokens, heads = np.frombuffer(source.read(16), np.int64)

            def read(count):
                shape = (tokens, count, spec.head_dim)
                return np.frombuffer(source.read(4 * int(np.prod(shape))), np.float32).reshape(shape)

            for array in run_case(library, spec, read(spec.kv_heads), read(spec.kv_heads), read(heads)):
                target.write(array.tobytes())
    library.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
