"""Makes GIF files with frames, palettes and colors in every relation; differential.py uses it."""
import io
import random
import struct

import numpy as np
from PIL import Image


def lzw(indices, bits):
    """The compressed data of PIL's encoder for a picture of these indices, of at least `bits` bits."""
    height, width = indices.shape
    image = Image.fromarray(indices, "P") if indices.size else None
    palette = bytes(range(256)) * 3
    image.putpalette(palette)
    out = io.BytesIO()
    image.save(out, "GIF", optimize=False)
    data = out.getvalue()
    # Behind the header, the global palette, extensions and the frame's header.
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 128 else 0)
    while data[at] == 0x21:
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    flags = data[at + 9]
    at += 10 + (3 << ((flags & 7) + 1) if flags & 128 else 0)
    return data[at:-1], flags & 64


def palette(rng, bits):
    kind = rng.random()
    if kind < 0.15:
        return bytes(level for level in range(1 << bits) for _ in range(3))
    return bytes(rng.randrange(256) for _ in range(3 << bits))


def extension(rng):
    kind = rng.random()
    if kind < 0.4:
        return b"!\xfe\x05hello\0"
    return b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"


def control(transparent, disposal):
    flags = (transparent is not None) | disposal << 2
    return b"!\xf9\x04" + struct.pack("<BHB", flags, 10, transparent or 0) + b"\0"


def make(seed):
    rng = random.Random(seed)
    width, height = rng.randint(1, 40), rng.randint(1, 40)
    notes, out = [f"{width}x{height}"], io.BytesIO()
    bits = rng.randint(1, 8)
    has_global = rng.random() < 0.8
    background = rng.randrange(256)
    out.write(rng.choice([b"GIF87a", b"GIF89a"]))
    out.write(struct.pack("<HHBBB", width, height, has_global * 128 | bits - 1, background, 0))
    if has_global:
        out.write(palette(rng, bits))
        notes.append(f"global {bits} bits")
    frames = rng.choice([1, 1, 1, 2, 3])
    for frame in range(frames):
        while rng.random() < 0.2:
            out.write(extension(rng))
        if rng.random() < 0.6:
            transparent = rng.choice([None, 0, 1, rng.randrange(1 << bits), rng.randrange(256)])
            disposal = rng.choice([0, 1, 2, 3])
            out.write(control(transparent, disposal))
            notes.append(f"transparent {transparent}, disposal {disposal}")
        if rng.random() < 0.4:
            left, top, w, h = 0, 0, width, height
        else:
            left, top = rng.randint(0, width), rng.randint(0, height)
            w, h = rng.randint(1, max(1, width - left)), rng.randint(1, max(1, height - top))
            if rng.random() < 0.1:
                w, h = w + rng.randint(0, 9), h + rng.randint(0, 9)
        local = rng.random() < (0.3 if has_global else 0.8)
        local_bits = rng.randint(1, 8)
        flags = 0
        if rng.random() < 0.3:
            flags |= 64
        if local:
            flags |= 128 | local_bits - 1
        depth = local_bits if local else bits if has_global else 8
        # Some indices have no color.
        most = 1 << depth if rng.random() < 0.8 else 256
        indices = np.random.default_rng(rng.getrandbits(32)).integers(0, most, (h, w)).astype(np.uint8)
        if rng.random() < 0.5:
            indices[:] = indices[:, :1]
        data, _ = lzw(indices, depth)
        out.write(b"," + struct.pack("<HHHHB", left, top, w, h, flags))
        if local:
            out.write(palette(rng, local_bits))
        out.write(data)
        notes.append(f"frame {w}x{h}+{left}+{top} flags {flags:#x}")
    data = out.getvalue()
    choice = rng.random()
    if choice < 0.85:
        data += b";"
    elif choice < 0.9:
        cut = rng.randint(1, 10)
        data = data[:-cut]
        notes.append(f"{cut} bytes cut")
    else:
        notes.append("no end")
    return ", ".join(notes), data
