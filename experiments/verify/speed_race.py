"""Races the toolkit against llama.cpp on one GGUF: alternating runs, medians, ratios.

usage: python3 speed_race.py MODEL.gguf [--modules DIR] [--python PYTHON] [--rounds 5] [--threads 2]
       DIR holds node_modules with node-llama-cpp; PYTHON has llama-cpp-python; at least one of the two is needed.

Each round starts every engine once in a process of its own, which warms up and then times one prefill of 512 tokens and
one decode of 128. A ratio is the toolkit's speed over the faster llama.cpp's, of medians. Run it on an idle machine.
"""
import argparse
import json
import os
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("model")
    for flag in ("modules", "python"):
        a.add_argument("--" + flag)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--threads", default="2")
    a = a.parse_args()
    model = os.path.abspath(a.model)
    common = [model, "--threads", a.threads, "--runs", "1"]
    flags = subprocess.run(["deno", "run", "-A", "--no-config", "--no-lock", ".std/flags.ts"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split()
    engines = {"toolkit": ["deno", "run", "-A", *flags, "experiments/verify/toolkit_speed.ts", *common]}
    if a.modules:
        script = os.path.join(HERE, "llama_cpp_speed.mjs")
        engines["node-llama-cpp"] = ["node", script, *common, "--modules", os.path.abspath(a.modules)]
    if a.python:
        engines["llama-cpp-python"] = [a.python, os.path.join(HERE, "llama_cpp_speed.py"), *common]
    times = {name: [] for name in engines}
    for _ in range(a.rounds):
        for name, command in engines.items():
            out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
            times[name].append(json.loads(out.strip().splitlines()[-1]))
    for phase in ("prefill", "decode"):
        speed = {n: statistics.median(r[phase + "TokensPerS"] for r in t) for n, t in times.items()}
        others = {n: s for n, s in speed.items() if n != "toolkit"}
        line = ", ".join(f"{n} {s:.1f}" for n, s in speed.items())
        ratio = f"; toolkit / fastest other {speed['toolkit'] / max(others.values()):.2f}" if others else ""
        print(f"{phase}: tokens/s {line}{ratio}")


if __name__ == "__main__":
    main()
