"""Makes TIFF files of every kind of pixel, compression and layout; differential.py uses it."""
import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

KINDS = [
    # photometric, bits, samples, extra, sample format
    (0, 1, 1, [], 1), (1, 1, 1, [], 1), (0, 2, 1, [], 1), (1, 2, 1, [], 1), (0, 4, 1, [], 1), (1, 4, 1, [], 1),
    (0, 8, 1, [], 1), (1, 8, 1, [], 1), (0, 16, 1, [], 1), (1, 16, 1, [], 1), (1, 16, 1, [], 2), (1, 32, 1, [], 2),
    (1, 32, 1, [], 1), (1, 32, 1, [], 3), (0, 32, 1, [], 3), (1, 8, 2, [2], 1), (1, 8, 2, [0], 1), (1, 8, 2, [1], 1),
    (2, 8, 3, [], 1), (2, 8, 4, [0], 1), (2, 8, 4, [1], 1), (2, 8, 4, [2], 1), (2, 8, 4, [], 1), (2, 16, 3, [], 1),
    (2, 16, 4, [2], 1), (2, 16, 4, [1], 1), (3, 1, 1, [], 1), (3, 2, 1, [], 1), (3, 4, 1, [], 1), (3, 8, 1, [], 1),
    (5, 8, 4, [], 1), (5, 16, 4, [], 1), (6, 8, 3, [], 1),
]


def pack(values, bits, form, order):
    """Rows of samples as bytes."""
    if bits >= 8:
        name = {8: "u1", 16: "i2" if form == 2 else "u2", 32: {1: "u4", 2: "i4", 3: "f4"}[form]}[bits]
        return values.astype(order + name).tobytes()
    out = b""
    for row in values:
        bit = (row.astype(int)[:, None] >> np.arange(bits - 1, -1, -1)) & 1
        out += np.packbits(bit.reshape(-1).astype(np.uint8)).tobytes()
    return out


def packbits(data):
    out = b""
    for start in range(0, len(data), 100):
        part = data[start : start + 100]
        out += bytes([len(part) - 1]) + part
    return out


def through_pil(rng, notes):
    """What PIL and libtiff write, JPEG and LZW among it."""
    width, height = rng.randint(1, 70), rng.randint(1, 70)
    values = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (height, width, 4)).astype(np.uint8)
    if rng.random() < 0.5:
        values[:] = values[:1]
    mode = rng.choice(["RGB", "L", "P", "CMYK", "RGBA", "1", "LA"])
    image = Image.fromarray(values[..., :3]).convert(mode) if mode in ("L", "P", "1") else Image.fromarray(values[..., :3]) if mode == "RGB" else Image.fromarray(values, mode) if mode != "LA" else Image.fromarray(values[..., :2], "LA")
    compression = rng.choice(["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "jpeg", "tiff_deflate", "group4", "raw"])
    if compression == "jpeg":
        image = image.convert(rng.choice(["RGB", "RGB", "L"]))
    if compression == "group4":
        image = image.convert("1")
    options = {}
    if rng.random() < 0.3 and compression not in ("group4",):
        options["tiffinfo"] = {278: 8 * rng.randint(1, 4)}
    if compression in ("tiff_lzw", "tiff_adobe_deflate") and image.mode in ("RGB", "L", "RGBA") and rng.random() < 0.4:
        options.setdefault("tiffinfo", {})[317] = 2
    out = io.BytesIO()
    image.save(out, "TIFF", compression=compression, **options)
    notes.append(f"PIL {image.mode} {width}x{height} {compression} {options}")
    return out.getvalue()


def make(seed):
    rng = random.Random(seed)
    notes = []
    if rng.random() < 0.4:
        try:
            return ", ".join(notes), through_pil(rng, notes)
        except Exception:
            notes = ["by hand"]
    photometric, bits, samples, extra, form = rng.choice(KINDS)
    width, height = rng.randint(1, 50), rng.randint(1, 50)
    order = rng.choice("<>")
    values = np.random.default_rng(rng.getrandbits(32))
    if form == 3:
        pixels = values.normal(128, 100, (height, width, samples))
    elif bits >= 16 and rng.random() < 0.5:
        pixels = values.integers(-50 if form == 2 else 0, 300, (height, width, samples))
    else:
        low = -(1 << bits - 1) if form == 2 else 0
        pixels = values.integers(low, low + (1 << bits), (height, width, samples))
    # PIL reads planes of other kinds wrongly.
    planar = samples == 3 and bits == 8 and rng.random() < 0.25
    # Couplet refuses tiles of planes, and tiles with a sample that means nothing.
    tiled = rng.random() < 0.3 and (width * bits) % 8 == 0 and not planar and extra != [0]
    compression = rng.choice([1, 1, 8, 32946, 32773])
    if (bits == 32 or form == 2) and compression != 1:
        # PIL swaps these bytes twice.
        order = "<"
    compress = {1: bytes, 8: zlib.compress, 32946: zlib.compress, 32773: packbits}[compression]
    planes = [pixels[..., c : c + 1] for c in range(samples)] if planar else [pixels]
    chunks = []
    rows = rng.choice([height, rng.randint(1, height)])
    for plane in planes:
        if tiled:
            for y in range(0, height, 16):
                for x in range(0, width, 16):
                    part = plane[y : y + 16, x : x + 16]
                    full = np.zeros((16, 16, part.shape[2]), plane.dtype)
                    full[: part.shape[0], : part.shape[1]] = part
                    chunks.append(compress(pack(full.reshape(16, -1), bits, form, order)))
        else:
            for y in range(0, height, rows):
                part = plane[y : y + rows]
                chunks.append(compress(pack(part.reshape(part.shape[0], -1), bits, form, order)))
    entries = {
        256: ("H", [width]), 257: ("H", [height]), 258: ("H", [bits] * samples), 259: ("H", [compression]),
        262: ("H", [photometric]), 277: ("H", [samples]), 284: ("H", [2 if planar else 1]), 339: ("H", [form] * samples),
    }
    if tiled:
        entries |= {322: ("H", [16]), 323: ("H", [16])}
        at, lengths = 324, 325
    else:
        entries[278] = ("H", [rows])
        at, lengths = 273, 279
    if extra:
        entries[338] = ("H", extra)
    if photometric == 3:
        entries[320] = ("H", [rng.randrange(65536) for _ in range(3 << bits)])
    if photometric == 6:
        entries[530] = ("H", [1, 1])
    if rng.random() < 0.15:
        entries[274] = ("H", [rng.randint(1, 8)])
    body, offsets = b"", []
    for data in chunks:
        offsets.append(8 + len(body))
        body += data + b"\0" * (len(data) % 2)
    entries[at], entries[lengths] = ("I", offsets), ("I", [len(data) for data in chunks])
    directory, tail = struct.pack(order + "H", len(entries)), b""
    start = 8 + len(body)
    tail_at = start + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        kind, numbers = entries[tag]
        data = struct.pack(order + kind * len(numbers), *numbers)
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(numbers))
        if len(data) <= 4:
            directory += data.ljust(4, b"\0")
        else:
            directory += struct.pack(order + "I", tail_at + len(tail))
            tail += data + b"\0" * (len(data) % 2)
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start) + body + directory + b"\0\0\0\0" + tail
    notes.append(f"{width}x{height} photometric {photometric} bits {bits} samples {samples} extra {extra} form {form} {order} planar {planar} tiled {tiled} compression {compression} orientation {entries.get(274)}")
    return ", ".join(notes), data
