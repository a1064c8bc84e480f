"""Measures peak memory and speed of training steps at several batch sizes.

Run in the repository's root, after `cargo build --release`:
    python experiments/performance/memory.py [couplet]     (Linux; no packages)

Prints one table. Each row is a run of a few steps on `shapes`, with its peak resident memory as the
system reports it, and samples/s from its metrics.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

COUPLET = sys.argv[1] if len(sys.argv) > 1 else "target/release/couplet"
DEEP = [
    "model.image.layers=24", "model.image.width=192", "model.text.layers=24", "model.text.width=128",
]
# model, batch, micro-batch, more settings
RUNS = [
    ("ViT-Ti-16-64", 256, 64, []),
    ("ViT-Ti-16-64", 1024, 64, []),
    ("ViT-Ti-16-64", 4096, 64, []),
    ("ViT-Ti-16-64", 1024, 1024, []),
    ("24 layers", 64, 64, DEEP),
    ("24 layers", 64, 64, [*DEEP, "batch.recompute_blocks=true"]),
    ("24 layers", 64, 16, DEEP),
]
PIXELS = 64 * 64 * 3


def run(batch, micro, more):
    steps = max(2, 512 // batch)
    settings = [
        "data.train.samples=8192", f"batch.global={batch}", f"batch.micro={micro}", "eval=[]", "checkpoint={}",
        f"schedule.length={steps} steps", "schedule.warmup=0 steps", "data.threads=2", f"log.every={steps} steps", *more,
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = [COUPLET, "train", "configs/shapes.toml", "--run-dir", folder]
        for setting in settings:
            command += ["--set", setting]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"{command} failed")
        lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
    return usage.ru_maxrss / 1024, json.loads(lines[-1])["samples_per_second"]


print("| model | batch | micro-batch | | peak MiB | of which the batch's pixels | samples/s |\n|---|---|---|---|---|---|---|")
for name, batch, micro, more in RUNS:
    peak, speed = run(batch, micro, more)
    note = "recomputed blocks" if "batch.recompute_blocks=true" in more else ""
    print(f"| {name} | {batch} | {micro} | {note} | {peak:.0f} | {batch * PIXELS / 2**20:.0f} | {speed:.0f} |", flush=True)
