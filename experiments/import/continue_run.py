"""Trains a tiny model with open_clip, for five epochs and then ten more, and keeps what `couplet import
--checkpoint` continues from: the checkpoint after epoch 5, params.txt, the data, and the ten next losses.

    python experiments/import/continue_run.py OUT [--siglip | --lock-image]

The batch is the whole dataset, so that an epoch is one step and the order of the samples does not matter; the
images are square and of the model's size, and `scale=(1.0,1.0)` switches the crop off.
"""

import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import open_clip_train.main as program
import torch
from PIL import Image

SAMPLES, SIDE, FIRST, MORE = 16, 32, 5, 10
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def make_data(folder):
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    words = ["red", "blue", "green", "gray", "small", "large", "old", "new"]
    rows = ["filepath\ttitle"]
    for index in range(SAMPLES):
        # Few colors, for small files.
        blocks = random.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(blocks).save(folder / "images" / f"{index:02}.png")
        rows.append(f"images/{index:02}.png\ta {words[index % 8]} {words[index // 2]} picture {index}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return [row.split("\t")[1] for row in rows[1:]]


def compress(path):
    """Stored entries become compressed ones: most of the moments are zeros."""
    with zipfile.ZipFile(path) as stored:
        entries = [(entry.filename, stored.read(entry)) for entry in stored.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, data)


def main():
    out, flags = Path(sys.argv[1]).resolve(), sys.argv[2:]
    captions = make_data(out)
    (out / "tiny.json").write_text(json.dumps(MODEL, indent=2) + "\n")
    os.chdir(out)
    open_clip.add_model_config(out / "tiny.json")

    create = program.create_model_and_transforms

    def create_small(*args, **kwargs):
        model, *transforms = create(*args, **kwargs)
        used = open_clip.get_tokenizer("tiny")(captions).unique()
        # Rows of words that no caption has stay zero, and cost nothing in the file.
        with torch.no_grad():
            kept = model.token_embedding.weight[used].clone()
            model.token_embedding.weight.zero_()
            model.token_embedding.weight[used] = kept
        return model, *transforms

    losses = []
    create_loss = program.create_loss

    def create_recording_loss(args):
        loss = create_loss(args)
        loss.register_forward_hook(
            lambda _, __, result: losses.append(float(next(iter(result.values())))) 
        )
        return loss

    program.create_model_and_transforms = create_small
    program.create_loss = create_recording_loss
    program.main(
        ["--train-data", "train.csv", "--model", "tiny", "--name", "tiny", "--device", "cpu", "--precision", "fp32"]
        + ["--batch-size", str(SAMPLES), "--epochs", str(FIRST + MORE), "--warmup", "3", "--lr", "2e-3"]
        + ["--workers", "0", "--aug-cfg", "scale=(1.0,1.0)", "--log-every-n-steps", "1"]
        + ["--save-frequency", str(FIRST), "--grad-clip-norm", "1.0", *flags]
    )
    run = out / "logs" / "tiny"
    checkpoint = out / f"epoch_{FIRST}.pt"
    (run / "checkpoints" / checkpoint.name).rename(checkpoint)
    compress(checkpoint)
    (run / "params.txt").rename(out / "params.txt")
    (out / "losses.json").write_text(json.dumps(losses[FIRST:]) + "\n")
    # Where this ran is nobody's business.
    lines = (out / "params.txt").read_text().splitlines()
    lines = [line for line in lines if "path" not in line.split(":")[0]]
    (out / "params.txt").write_text("\n".join(lines) + "\n")
    for path in sorted((out / "logs").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (out / "logs").rmdir()
    print("first", losses[:FIRST], "next", losses[FIRST:])


main()
