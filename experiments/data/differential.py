"""Compares Couplet's pixels with PIL's over generated image files.

    cargo build --release -p couplet -p couplet-data --example pixels
    python experiments/data/differential.py KIND SEED COUNT [--keep FOLDER]

KIND is jpeg, gif, png, tiff, bmp or webp. File number i is made from the number SEED + i alone, so a
file that differs is made again by `differential.py KIND SEED 1`. Files that differ are written to
FOLDER, and the exit code is 1.

Needs numpy and pillow, and for jpeg also cjpeg and jpegtran (Debian: libjpeg-turbo-progs).
"""
import argparse
import collections
import importlib
import io
import pathlib
import struct
import subprocess
import sys
import warnings

import numpy as np
from PIL import Image

PIXELS = pathlib.Path(__file__).parents[2] / "target/release/examples/pixels"
# What a damaged scan decodes to is not defined: libjpeg's C code wraps where its SIMD code saturates. Either
# both read such a file or none.
UNDEFINED = ["damaged scan"]
# PIL rounds the colors of these otherwise than their standards.
ROUNDED = ["photometric 6", "bits 16 compression"]
# Where PIL reads nothing, it says nothing about pixels either. (It refuses a GIF that ends within its last
# block, whose pixels may be whole.)
NO_REFERENCE = {
    "gif": ["image file is truncated"],
    "tiff": ["UnidentifiedImageError: cannot identify", "conversion from", "unknown raw mode"],
    "bmp": ["Unsupported BMP bitfields layout"],
}



def pil(data):
    """The first frame in RGB, or the error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class Couplet:
    def __init__(self):
        self.process = subprocess.Popen([PIXELS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, data):
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()
        width, height = struct.unpack("<II", self.process.stdout.read(8))
        if width == 0:
            return self.process.stdout.read(height).decode()
        body = self.process.stdout.read(3 * width * height)
        return np.frombuffer(body, np.uint8).reshape(height, width, 3)


def difference(ours, theirs):
    """The largest difference of a level, or what else is different."""
    if isinstance(ours, str) and isinstance(theirs, str):
        return 0
    if isinstance(ours, str):
        return f"Couplet refuses: {ours}"
    if isinstance(theirs, str):
        return f"PIL refuses: {theirs}"
    if ours.shape != theirs.shape:
        return f"sizes {ours.shape} and {theirs.shape}"
    return int(np.abs(ours.astype(int) - theirs).max())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
    make = importlib.import_module(f"make_{options.kind}").make
    couplet, counts, different = Couplet(), collections.Counter(), 0
    for seed in range(options.seed, options.seed + options.count):
        recipe, data = make(seed)
        theirs, ours = pil(data), couplet(data)
        counts["PIL refuses" if isinstance(theirs, str) else "PIL reads"] += 1
        found = difference(ours, theirs)
        if isinstance(found, int) and found and any(note in recipe for note in UNDEFINED):
            found = 0
        if isinstance(theirs, str) and any(message in theirs for message in NO_REFERENCE.get(options.kind, [])):
            found = 0
        if found == 1 and any(note in recipe for note in ROUNDED):
            found = 0
        if found:
            different += 1
            print(f"{seed}: {recipe}: {found}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{seed}.{options.kind}").write_bytes(data)
    print(f"{options.count} files, {different} differ;", dict(sorted(counts.items())))
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
