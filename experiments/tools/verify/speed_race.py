"""Races the toolkit against llama.cpp on one GGUF: alternating runs, medians, ratios, and the most memory of each.

usage: python3 speed_race.py MODEL.gguf [--modules DIR] [--python PYTHON] [--rounds 5] [--threads 2] [--decode 128]
         [--keys SHARE] [--matmul exact] [--cache-dtype f32] [--once]
       python3 speed_race.py --shape llama-2-7b [--layers N] [--folder DIR] [--decode 32] …
       DIR holds node_modules with node-llama-cpp; PYTHON has llama-cpp-python; at least one of the two is needed for a
       ratio, and none for the toolkit's own figures. --shape needs gguf and numpy: `make_shape.py` writes a file of 4 to
       5 GB (less with --layers) into --folder, which is deleted afterwards.

Each round starts every engine once in a process of its own, which warms up (not with --once) and then times
one prefill of 512 tokens and one decode. With --keys the toolkit runs the preset `keys` too, at that share;
--matmul are the toolkit's, and so is --cache-dtype (llama.cpp's cache is f16). A ratio is the toolkit's speed over the faster llama.cpp's, of medians. Memory
is the process's maximum resident set, what it maps of the file included (llama.cpp maps it; the toolkit reads
it). Run it on an idle machine.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../../..")


def run(command):
    """The JSON of a command's last line, with its maximum resident set."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed with {process.returncode}")
    return {**json.loads(out.strip().splitlines()[-1]), "peakGb": usage.ru_maxrss * 1024 / 1e9}


def race(model, a):
    common = [model, "--threads", a.threads, "--runs", "1", "--decode", str(a.decode)]
    flags = subprocess.run(["deno", "run", "-A", "--no-config", "--no-lock", ".std/flags.ts"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split()
    own = ["--matmul", a.matmul, "--cache-dtype", a.cache_dtype] + (["--keys", a.keys] if a.keys else []) + (["--no-warmup"] if a.once else [])
    engines = {"toolkit": ["deno", "run", "-A", *flags, "experiments/tools/verify/toolkit_speed.ts", *common, *own]}
    if a.modules:
        script = os.path.join(HERE, "llama_cpp_speed.mjs")
        engines["node-llama-cpp"] = ["node", script, *common, "--modules", os.path.abspath(a.modules)]
    if a.python:
        engines["llama-cpp-python"] = [a.python, os.path.join(HERE, "llama_cpp_speed.py"), *common]
    times = {name: [] for name in engines}
    for round in range(a.rounds):
        for name, command in engines.items():
            times[name].append(run(command))
            got = times[name][-1]
            print(f"round {round + 1}, {name}: prefill {got['prefillTokensPerS']:.1f}, decode "
                  f"{got['decodeTokensPerS']:.2f} tokens/s, {got['peakGb']:.2f} GB", file=sys.stderr, flush=True)
    middle = lambda values: statistics.median(values)
    for phase in ("prefill", "decode"):
        speed = {n: middle(r[phase + "TokensPerS"] for r in t) for n, t in times.items()}
        others = {n: s for n, s in speed.items() if n != "toolkit"}
        line = ", ".join(f"{n} {s:.2f}" for n, s in speed.items())
        ratio = f"; toolkit / fastest other {speed['toolkit'] / max(others.values()):.2f}" if others else ""
        print(f"{phase}: tokens/s {line}{ratio}")
        if a.keys:
            keys = middle(r["keys"][phase + "TokensPerS"] for r in times["toolkit"])
            print(f"{phase}, keys at {a.keys}: tokens/s {keys:.2f}, {keys / speed['toolkit']:.2f} of dense")
    print(f"load: toolkit {middle(r['loadTimeMs'] for r in times['toolkit']) / 1e3:.1f} s, its digest included")
    print("memory: GB " + ", ".join(f"{n} {max(r['peakGb'] for r in t):.2f}" for n, t in times.items())
          + f"; weights {times['toolkit'][0]['weightBytes'] / 1e9:.2f}")


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("model", nargs="?")
    for flag in ("modules", "python", "shape", "folder", "keys"):
        a.add_argument("--" + flag)
    a.add_argument("--layers", type=int)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--decode", type=int, default=128)
    a.add_argument("--threads", default="2")
    a.add_argument("--matmul", default="exact")
    a.add_argument("--cache-dtype", default="f32")
    a.add_argument("--once", action="store_true")
    a = a.parse_args()
    if (a.model is None) == (a.shape is None):
        raise SystemExit("expected either MODEL.gguf or --shape NAME")
    if a.model:
        return race(os.path.abspath(a.model), a)
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        model = os.path.join(folder, f"{a.shape}.gguf")
        layers = ["--layers", str(a.layers)] if a.layers else []
        subprocess.run([sys.executable, os.path.join(HERE, "make_shape.py"), a.shape, model, *layers], check=True)
        race(model, a)


if __name__ == "__main__":
    main()
