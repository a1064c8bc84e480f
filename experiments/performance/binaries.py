"""Compares several builds of Couplet, alternating on the same cores: training steps and the data pipeline.

    python experiments/performance/binaries.py ROUNDS BINARY [BINARY ...]

Prints the median seconds of each round's steps, and samples/s for shards with images of 256 pixels.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

CONFIG = pathlib.Path(__file__).parents[2] / "configs/shapes.toml"
STEPS = ["ViT-B-32:8:16", "RN50:4:16", "ViT-Ti-16-64:64:10"]


def read(*command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def step(binary, case):
    model, batch, tokens = case.split(":")
    out = read(binary, "bench", "step", "--model", model, "--batch", batch, "--caption-tokens", tokens, "--steps", "5",
               "--warm-up", "1", "--device", "flex", "--json")
    return out["step"]["median_seconds"]


def load(binary, shards):
    sets = ["data.train.source=webdataset", f"data.train.shards={shards}/*.tar", "data.train.samples=",
            "model.preset=ViT-B-32", "eval=[]", "checkpoint.best="]
    out = read(binary, "data", "bench", str(CONFIG), "--seconds", "8", "--json", *[x for s in sets for x in ("--set", s)])
    return out["samples_per_second"]


def main(rounds, *binaries):
    with tempfile.TemporaryDirectory() as shards:
        subprocess.run([binaries[0], "data", "shapes", "--samples", "1024", "--image-size", "256", shards], check=True,
                       capture_output=True)
        print("| binary |", " | ".join(f"{case}, s" for case in STEPS), "| data, samples/s |")
        print("|---" * (len(STEPS) + 2) + "|")
        for _ in range(int(rounds)):
            for binary in binaries:
                cells = [f"{step(binary, case):.3f}" for case in STEPS]
                print("|", pathlib.Path(binary).name, "|", " | ".join(cells), f"| {load(binary, shards):.0f} |", flush=True)


main(*sys.argv[1:])
