"""Makes WebP files, lossy and lossless, with alpha and animated; differential.py uses it."""
import io
import random

import numpy as np
from PIL import Image

from make_jpeg import picture


def make(seed):
    rng = random.Random(seed)
    width, height = rng.randint(1, 80), rng.randint(1, 80)
    image = picture(rng, width, height)
    alpha = rng.random() < 0.4
    if alpha:
        levels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
        levels[: height // 2] = rng.choice([0, 255, 128])
        image.putalpha(Image.fromarray(levels))
    options = {"lossless": rng.random() < 0.4, "quality": rng.choice([5, 50, 80, 100]), "method": rng.randint(0, 6)}
    if alpha and rng.random() < 0.5:
        options["exact"] = True
    if rng.random() < 0.2:
        options |= {"save_all": True, "append_images": [picture(rng, width, height)], "duration": 100}
    out = io.BytesIO()
    image.save(out, "WEBP", **options)
    options.pop("append_images", None)
    return f"{width}x{height} alpha {alpha} {options}", out.getvalue()
