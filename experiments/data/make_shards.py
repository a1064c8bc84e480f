"""Writes webdataset shards of 512x384 JPEGs (quality 90, colours subsampled) with captions.

    python experiments/data/make_shards.py FOLDER [SHARDS [PER_SHARD [WIDTH HEIGHT]]]

Needs numpy and pillow.

The images have the spectrum of photographs: noise whose power falls with frequency, in colours that
vary slowly. Each is about 70 KB at 512x384. Captions have 6 to 16 words.
"""
import io
import pathlib
import random
import sys
import tarfile

import numpy as np
from PIL import Image

WORDS = "a the red small old young wooden dog cat horse street market river bridge child woman man runs stands looks under over near with on snow rain light evening blue green car train".split()


def picture(rng, width, height):
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None]
    falling = 1 / np.maximum(np.hypot(fx, fy), 1 / width) ** 1.35
    channels = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random((height, width // 2 + 1)))
        channels.append(np.fft.irfft2(falling * phase, s=(height, width)))
    grey, warm, cold = [c / c.std() for c in channels]
    rgb = np.stack([grey + 0.4 * warm, grey, grey + 0.4 * cold], -1)
    return Image.fromarray(np.clip(128 + 50 * rgb, 0, 255).astype(np.uint8))


def main(folder, shards=4, per_shard=500, width=512, height=384):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng, words = np.random.default_rng(0), random.Random(0)
    size = 0
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:04}.tar", "w") as tar:
            for at in range(per_shard):
                jpeg = io.BytesIO()
                picture(rng, width, height).save(jpeg, "JPEG", quality=90)
                size += len(jpeg.getvalue())
                caption = " ".join(words.choices(WORDS, k=words.randint(6, 16)))
                for ending, data in (("jpg", jpeg.getvalue()), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{shard:04}{at:05}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    print(f"{shards * per_shard} samples, {size // (shards * per_shard)} bytes per image")


main(sys.argv[1], *map(int, sys.argv[2:]))
