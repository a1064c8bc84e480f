"""Writes scikit-learn's 1,797 scanned digits as image-text data.

    python experiments/digits/make_digits.py data/digits

The same 1,437 training and 360 test images are written in each form:
    train-{0000..0003}.tar   webdataset shards, NNNN.png with NNNN.txt
    train.csv, train/*.png   a table with the columns filepath and title
    train-classes/D/*.png    one sub-folder per class, for probes
    test/D/*.png             one sub-folder per class, classnames.txt, templates.txt

Needs scikit-learn and pillow. Images are the 8x8 scans, scaled to 32x32 pixels.
"""
import csv
import io
import pathlib
import sys
import tarfile

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CAPTIONS = [
    "a photo of the number {}.",
    "the digit {}",
    "a handwritten {}",
    "someone wrote the number {}",
    "{}",
]
TEMPLATES = ["a photo of the number {}.", "the digit {}", "a handwritten {}"]
SHARDS = 4

out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "data/digits")
digits = load_digits()
pixels = np.uint8(np.round(digits.images * 255 / 16))
train, test = train_test_split(
    np.arange(len(pixels)), test_size=360, random_state=0, stratify=digits.target
)


def png(index):
    image = Image.fromarray(pixels[index], "L").resize((32, 32), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


(out / "train").mkdir(parents=True, exist_ok=True)
tars = [tarfile.open(out / f"train-{i:04}.tar", "w") for i in range(SHARDS)]
with open(out / "train.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["filepath", "title"])
    for at, index in enumerate(train):
        caption = CAPTIONS[at % len(CAPTIONS)].format(NAMES[digits.target[index]])
        data = png(index)
        name = f"{index:04}"
        add(tars[at % SHARDS], f"{name}.png", data)
        add(tars[at % SHARDS], f"{name}.txt", caption.encode())
        (out / "train" / f"{name}.png").write_bytes(data)
        folder = out / "train-classes" / str(digits.target[index])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(data)
        table.writerow([f"train/{name}.png", caption])
for tar in tars:
    tar.close()
for index in test:
    folder = out / "test" / str(digits.target[index])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{index:04}.png").write_bytes(png(index))
(out / "test" / "classnames.txt").write_text("\n".join(NAMES) + "\n")
(out / "test" / "templates.txt").write_text("\n".join(TEMPLATES) + "\n")
print(f"{len(train)} training and {len(test)} test images in {out}")
