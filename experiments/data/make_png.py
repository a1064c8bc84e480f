"""Makes PNG files of every kind of pixel, interlaced, animated and cut; differential.py uses it."""
import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

DEPTHS = {0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(rng, samples, depth):
    """Rows of [height, width * channels] samples, each behind its filter's number."""
    out = b""
    for row in samples:
        if depth == 16:
            line = row.astype(">u2").tobytes()
        elif depth == 8:
            line = row.astype(np.uint8).tobytes()
        else:
            bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            line = np.packbits(bits.reshape(-1).astype(np.uint8)).tobytes()
        # Any bytes are valid for filter 1, a sum with the bytes before.
        out += bytes([rng.choice([0, 0, 1, 2, 3, 4])]) + line
    return out


def make(seed):
    rng = random.Random(seed)
    kind = rng.choice(list(DEPTHS))
    depth = rng.choice(DEPTHS[kind])
    width, height = rng.randint(1, 40), rng.randint(1, 40)
    interlaced = rng.random() < 0.3
    values = np.random.default_rng(rng.getrandbits(32))
    samples = values.integers(0, 1 << depth, (height, width, CHANNELS[kind]))
    if depth == 16 and rng.random() < 0.5:
        samples %= 300
    notes = [f"{width}x{height} color {kind} depth {depth}"]
    raw = b""
    if interlaced:
        notes.append("interlaced")
        for x, y, dx, dy in PASSES:
            part = samples[y::dy, x::dx]
            if part.size:
                raw += packed(rng, part.reshape(part.shape[0], -1), depth)
    else:
        raw = packed(rng, samples.reshape(height, -1), depth)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))
    if rng.random() < 0.1:
        data += chunk(b"tEXt", b"Comment\0hello")
    if rng.random() < 0.1:
        data += chunk(b"gAMA", struct.pack(">I", 45455))
    if kind == 3:
        colors = rng.choice([1 << depth, rng.randint(1, 1 << depth)])
        data += chunk(b"PLTE", bytes(rng.randrange(256) for _ in range(3 * colors)))
        notes.append(f"{colors} colors")
    if kind in (0, 2, 3) and rng.random() < 0.4:
        body = bytes(rng.randrange(256) for _ in range(rng.randint(1, colors))) if kind == 3 else struct.pack(">H", rng.randrange(1 << depth)) * CHANNELS[kind]
        data += chunk(b"tRNS", body)
        notes.append("tRNS")
    animated = rng.random() < 0.1
    if animated:
        data += chunk(b"acTL", struct.pack(">II", 2, 0))
        if rng.random() < 0.6:
            data += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, rng.choice([0, 1, 2]), rng.choice([0, 1])))
        notes.append("animated")
    body = zlib.compress(raw)
    if rng.random() < 0.4:
        at = rng.randint(0, len(body))
        data += chunk(b"IDAT", body[:at]) + chunk(b"IDAT", body[at:])
    else:
        data += chunk(b"IDAT", body)
    if animated:
        data += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, width, height, 0, 0, 1, 10, 0, 0))
        data += chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(raw[::-1] and raw))
    if rng.random() < 0.1:
        out = bytearray(data)
        out[rng.randrange(8, len(out))] ^= 1 << rng.randrange(8)
        data = bytes(out)
        notes.append("damaged")
    choice = rng.random()
    if choice < 0.8:
        data += chunk(b"IEND", b"")
    elif choice < 0.9:
        notes.append("no end")
    else:
        cut = rng.randint(1, 12)
        data = data[:-cut]
        notes.append(f"{cut} bytes cut")
    return ", ".join(notes), data
