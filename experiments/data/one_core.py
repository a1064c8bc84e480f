"""Decoding and exact resizing on one core: Couplet beside PIL, alternating over the same shards.

    python experiments/data/make_shards.py SHARDS
    python experiments/data/one_core.py SHARDS [ROUNDS]

Both decode JPEGs at full size by libjpeg-turbo's code and resize them bit for bit alike: the shorter side to 224, and a center
crop. Needs pillow, and `cargo build --release`.
"""
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time

from PIL import Image, features

from loader import CONFIG, pattern

SECONDS = 6


def couplet(folder):
    config = CONFIG.replace("threads = 2", "threads = 1")
    head, _, rest = config.partition("[data.train.augment]")
    config = head + rest[rest.index("[batch]"):]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(config.format(shards=pattern(folder)[0]))
        file.flush()
        command = ["target/release/couplet", "data", "bench", file.name, "--seconds", str(SECONDS), "--json"]
        out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    stages = out["milliseconds_per_sample"]
    return stages["decoding"], stages["resizing and augmenting"]


def pil(folder):
    with tarfile.open(sorted(folder.glob("*.tar"))[0]) as tar:
        files = [tar.extractfile(member).read() for member in tar if member.name.endswith(".jpg")]
    spent, count, end = [0.0, 0.0], 0, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        image = Image.open(io.BytesIO(files[count % len(files)])).convert("RGB")
        decoded = time.perf_counter()
        width, height = image.size
        short = min(width, height)
        size = 224 * width // short, 224 * height // short
        left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
        image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
        spent[0] += decoded - begin
        spent[1] += time.perf_counter() - decoded
        count += 1
    return [1e3 * part / count for part in spent]


def main():
    os.sched_setaffinity(0, {0})
    folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print("PIL's libjpeg-turbo:", features.version("libjpeg_turbo"))
    print("| round | Couplet: decoding, resizing, ms | PIL: decoding, resizing, ms |")
    print("|---|---|---|")
    for round in range(1, rounds + 1):
        cells = ["{:.2f}, {:.2f}".format(*side(folder)) for side in (couplet, pil)]
        print(f"| {round} |", " | ".join(cells), "|", flush=True)


main()
