"""Compares Couplet's loader with open_clip's webdataset loader, alternating on the same shards.

    python experiments/data/make_shards.py SHARDS
    python experiments/data/loader.py SHARDS [ROUNDS]

Needs open_clip_torch==3.3.0, torch, torchvision, webdataset==0.2.86 and pandas, and `cargo build --release`.
Settings: random resized crop to 224 (scale 0.9 to 1), CLIP tokens, batch 64, 2 workers for open_clip
and 2 threads for Couplet.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

CONFIG = """
name = "loader"
[model]
preset = "ViT-B-32"
[data]
threads = 2
[data.train]
source = "webdataset"
shards = "{shards}"
[data.train.augment]
random_resized_crop = {{ scale = [0.9, 1.0] }}
[batch]
global = 64
[optimizer]
kind = "adamw"
lr = 1e-3
[schedule]
kind = "cosine"
length = "1 epoch"
"""


def pattern(folder):
    names = sorted(path.name for path in folder.glob("*.tar"))
    return f"{folder}/{{{names[0][:-4]}..{names[-1][:-4]}}}.tar", len(names)


def couplet(folder, seconds):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(CONFIG.format(shards=pattern(folder)[0]))
        config.flush()
        command = ["target/release/couplet", "data", "bench", config.name, "--seconds", str(seconds), "--json"]
        out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    stages = {name: round(ms, 2) for name, ms in out["milliseconds_per_sample"].items()}
    return out["samples_per_second"], stages


def open_clip_loader(folder, seconds):
    import open_clip
    from open_clip.transform import image_transform
    try:
        from open_clip_train.data import get_wds_dataset
    except ImportError:
        sys.exit("open_clip_train is not installed with this open_clip_torch")
    shards, count = pattern(folder)
    arguments = SimpleNamespace(
        train_data=shards, train_num_samples=10**9, dataset_resampled=True, seed=0, workers=2, batch_size=64,
        world_size=1, train_data_upsampling_factors=None, distributed=False, use_tsv=False,
    )
    transform = image_transform(224, is_train=True)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    data = get_wds_dataset(arguments, transform, is_train=True, tokenizer=tokenizer)
    batches = iter(data.dataloader)
    for _ in range(4):
        next(batches)
    start, samples = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        samples += len(next(batches)[0])
    print(samples / (time.perf_counter() - start), flush=True)


def main(folder, rounds=3, seconds=12):
    print("| round | couplet | open_clip | ratio | couplet's ms per sample |\n|---|---|---|---|---|")
    for at in range(rounds):
        ours, stages = couplet(folder, seconds)
        command = [sys.executable, __file__, "--open-clip", str(folder), str(seconds)]
        theirs = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        print(f"| {at + 1} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} | {stages} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--open-clip":
        open_clip_loader(pathlib.Path(sys.argv[2]), float(sys.argv[3]))
    else:
        main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:3]))
