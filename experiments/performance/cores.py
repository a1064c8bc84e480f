"""Times kernels and steps with different numbers of cores.

    cargo build --release
    cargo build --release -p couplet-train --example cores
    python experiments/performance/cores.py [ROUNDS [CORES,CORES…]] [--binary COUPLET] [--example CORES]

CORES are numbers of cores, 1 and 2 if none are given; taskset binds the processes to the first ones. The runs alternate,
and the fastest of all rounds counts. Efficiency is the time with the fewest cores over that with more, divided by
how many times as many there are.
"""
import argparse
import json
import os
import pathlib
import subprocess

RELEASE = pathlib.Path(__file__).parents[2] / "target/release"
STEPS = ["ViT-B-32:16:77:fp32", "ViT-B-32:16:77:bf16", "RN50:4:77:fp32", "RN50:4:77:bf16", "ViT-Ti-16-64:64:16:fp32", "ViT-Ti-16-64:64:16:bf16"]


def bound(cores, command):
    # PyTorch's and others' variables would override what taskset allows.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = ["taskset", "-c", f"0-{cores - 1}", *map(str, command)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def kernels(options, cores):
    lines = [line.split("\t") for line in bound(cores, [options.example]).splitlines()]
    return {name: float(milliseconds) for name, milliseconds in lines}


def steps(options, cores):
    out = {}
    for case in STEPS:
        model, batch, tokens, precision = case.split(":")
        text = bound(cores, [options.binary, "bench", "step", "--model", model, "--batch", batch, "--caption-tokens", tokens, "--json",
                             "--steps", "20" if "Ti" in model else "3", "--warm-up", "1", "--device", "cpu", "--precision", precision])
        out[f"a step of {model}, batch {batch}, {precision}"] = 1e3 * json.loads(text)["step"]["median_seconds"]
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("cores", nargs="?", default="1,2")
    parser.add_argument("--binary", default=RELEASE / "couplet")
    parser.add_argument("--example", default=RELEASE / "examples/cores")
    options = parser.parse_args()
    counts = sorted(map(int, options.cores.split(",")))
    best = {}
    for _ in range(options.rounds):
        for cores in counts:
            for name, milliseconds in {**kernels(options, cores), **steps(options, cores)}.items():
                times = best.setdefault(name, {})
                times[cores] = min(milliseconds, times.get(cores, milliseconds))
    head = " | ".join([f"{cores} core{'s' * (cores > 1)}, ms" for cores in counts] + [f"efficiency with {cores}" for cores in counts[1:]])
    print(f"| | {head} |\n" + "|---" * (2 * len(counts)) + "|")
    for name, times in best.items():
        fewest = counts[0]
        efficiency = [f"{times[fewest] / times[cores] * fewest / cores:.2f}" for cores in counts[1:]]
        print(f"| {name} | " + " | ".join([f"{times[cores]:.2f}" for cores in counts] + efficiency) + " |")


if __name__ == "__main__":
    main()
