"""Compares an evaluation of a tower at 224 px with the tower's forward pass alone, alternating.

    cargo build --release
    python experiments/data/make_shards.py SHARDS
    python experiments/evaluation/speed.py SHARDS [ROUNDS [MODEL]]

The time is the difference between a long and a short evaluation, which removes fixed costs (reading
the model, classes, imports). Needs open_clip_torch==3.3.0 and torch, for random weights.
"""
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time

import open_clip
import torch

COUPLET = pathlib.Path(__file__).parents[2] / "target/release/couplet"
BATCH, SHORT, LONG = 64, 64, 320


def unpack(shards, folder, images):
    done = 0
    for shard in sorted(pathlib.Path(shards).glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".jpg") and done < images:
                    place = folder / str(done % 2) / f"{done:05}.jpg"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(tar.extractfile(member).read())
                    done += 1


def forward(model):
    command = [COUPLET, "bench", "step", "--model", model, "--batch", str(BATCH), "--steps", "3", "--warm-up", "1",
               "--caption-tokens", "8", "--micro", "16", "--device", "flex", "--json"]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return out["image_forward"]["samples_per_second"]


def evaluation(weights, model, short, long):
    def seconds(folder):
        start = time.perf_counter()
        command = [COUPLET, "eval", "zero-shot", "--model", weights, "--arch", model, "--dataset", folder, "--no-cache",
                   "--device", "flex"]
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    return (LONG - SHORT) / (seconds(long) - seconds(short))


def main():
    shards, rounds, model = (sys.argv[1:] + ["3", "ViT-B-32"][len(sys.argv) - 2 :])[:3]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        torch.manual_seed(0)
        torch.save(open_clip.create_model(model).state_dict(), folder / "random.pt")
        unpack(shards, folder / "short", SHORT)
        unpack(shards, folder / "long", LONG)
        print("| round | forward, images/s | evaluation, images/s | ratio |\n|---|---|---|---|")
        for at in range(int(rounds)):
            bare = forward(model)
            whole = evaluation(folder / "random.pt", model, folder / "short", folder / "long")
            print(f"| {at + 1} | {bare:.1f} | {whole:.1f} | {whole / bare:.2f} |", flush=True)


main()
