#!/usr/bin/env python3
"""Samples/s of several ranks beside one, on this machine, alternating.

    cargo build --release --features mpi
    python experiments/ranks/speed.py target/release/couplet

Each run trains configs/shapes.toml with a tiny ViT for a few steps. Ranks are also bound to one core each: otherwise
the loader's thread of a single rank has the other core for itself. Needs Open MPI's mpirun.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Ranks, threads of each, and what a rank is bound to.
SETTINGS = [(1, 1, "core"), (2, 1, "core"), (1, 1, "none"), (2, 1, "none"), (1, 2, "none")]


def speed(arguments, ranks, threads, binding, folder):
    """The median samples/s of the steps after the first three."""
    command = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", binding]
    run = Path(folder) / "run"
    command += [str(Path(arguments.binary).resolve()), "train", str(ROOT / "configs/shapes.toml"), "--overwrite"]
    command += ["--run-dir", str(run)]
    for setting in [f"model.preset={arguments.model}", f"batch.global={arguments.batch}",
                    f"schedule.length={arguments.steps} steps", "schedule.warmup=2 steps", "log.every=1 step", "eval=[]",
                    "checkpoint.best=", "checkpoint.every=1000 steps"]:
        command += ["--set", setting]
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMPI_ALLOW_RUN_AS_ROOT="1",
                       OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    done = subprocess.run(command, env=environment, text=True, timeout=600, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(done.stdout)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["samples_per_second"] for line in lines[3:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--model", default="ViT-Ti-8-64")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = {setting: [] for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for setting in SETTINGS:
                found[setting].append(speed(arguments, *setting, folder))
    for (ranks, threads, binding), speeds in found.items():
        where = " on one core each" if binding == "core" else ""
        shown = " ".join(f"{one:.0f}" for one in speeds)
        print(f"{ranks} ranks of {threads} threads{where}: {statistics.median(speeds):.0f} samples/s ({shown})")


if __name__ == "__main__":
    main()
