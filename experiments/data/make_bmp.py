"""Makes BMP files of every depth and header; differential.py uses it."""
import random
import struct

import numpy as np


def rle(rng, indices, bits):
    out = b""
    for row in indices[::-1]:
        at = 0
        while at < len(row):
            run = rng.randint(1, 6)
            if rng.random() < 0.5 or len(row) - at < 3:
                part = row[at : at + run]
                value = int(part[0])
                same = 1
                while same < len(part) and part[same] == value:
                    same += 1
                out += bytes([same, value if bits == 8 else value << 4 | value])
                at += same
            else:
                part = row[at : at + max(run, 3)]
                data = part.tobytes() if bits == 8 else bytes(int(a) << 4 | int(b) for a, b in zip(part[::2], list(part[1::2]) + [0]))
                out += bytes([0, len(part)]) + data + b"\0" * (len(data) % 2)
                at += len(part)
        out += b"\0\0"
    return out + b"\0\1"


def make(seed):
    rng = random.Random(seed)
    width, height = rng.randint(1, 40), rng.randint(1, 40)
    bits = rng.choice([1, 4, 8, 16, 24, 32, 4, 8])
    values = np.random.default_rng(rng.getrandbits(32))
    compressed = bits in (4, 8) and rng.random() < 0.4
    masks = bits in (16, 32) and rng.random() < 0.4
    down = not compressed and rng.random() < 0.2
    colors = b""
    compression = 0
    if bits <= 8:
        count = 1 << bits
        colors = b"".join(bytes([rng.randrange(256) for _ in range(3)]) + b"\0" for _ in range(count))
        indices = values.integers(0, count, (height, width)).astype(np.uint8)
        if compressed:
            indices[:, : width // 2] = indices[:, :1]
            compression = 1 if bits == 8 else 2
            pixels = rle(rng, indices, bits)
        else:
            bit = (indices[..., None] >> np.arange(bits - 1, -1, -1)) & 1
            rows = np.packbits(bit.reshape(height, -1), axis=1)
            pixels = b"".join(row.tobytes() + b"\0" * (-len(row) % 4) for row in rows)
    else:
        rows = values.integers(0, 256, (height, width * bits // 8)).astype(np.uint8)
        pixels = b"".join(row.tobytes() + b"\0" * (-len(row) % 4) for row in rows)
    if masks:
        compression = 3
        colors = struct.pack("<III", *rng.choice([(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)] if bits == 16 else [(0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFF000000, 0xFF0000, 0xFF00)]))
    header = struct.pack("<IiiHHIIiiII", 40, width, -height if down else height, 1, bits, compression, len(pixels), 2835, 2835, 0, 0)
    start = 14 + len(header) + len(colors)
    data = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + colors + pixels
    return f"{width}x{height} bits {bits} compression {compression} down {down}", data
