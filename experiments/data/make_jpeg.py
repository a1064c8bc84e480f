"""Makes JPEG files of every layout that libjpeg reads, and damages some; differential.py uses it."""
import io
import random
import shutil
import struct
import subprocess
import tempfile

import numpy as np
from PIL import Image

SAMPLINGS = [
    "1x1,1x1,1x1", "2x1,1x1,1x1", "1x2,1x1,1x1", "2x2,1x1,1x1", "4x1,1x1,1x1", "4x2,1x1,1x1", "1x4,1x1,1x1",
    "2x4,1x1,1x1", "3x1,1x1,1x1", "1x3,1x1,1x1", "3x2,1x1,1x1", "4x4,1x1,1x1", "2x2,2x1,2x1", "2x2,1x2,1x2",
    "2x2,2x2,2x2", "2x2,2x1,1x2", "2x1,1x2,1x1", "1x1,2x2,2x2", "1x1,2x1,1x2", "1x2,2x1,2x1", "2x2,1x1,2x2",
    "4x1,2x1,1x1", "4x2,2x2,1x1", "3x1,3x1,1x1", "2x1,2x1,1x1",
]
ORDINARY = SAMPLINGS[:4]


def picture(rng, width, height):
    """Waves, an edge and noise: smooth parts, and parts that saturate."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + rng.uniform(40, 160) * np.sin(x / rng.uniform(1, 20) + y / rng.uniform(1, 20) + c) for c in range(3)]
    image = np.stack(waves, -1) + rng.choice([0, 0, 10, 60]) * np.random.default_rng(rng.getrandbits(32)).normal(size=(height, width, 3))
    if rng.random() < 0.5:
        image[y * 2 > x + height // 3] = [rng.randrange(256) for _ in range(3)]
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def ppm(image):
    out = io.BytesIO()
    image.save(out, "ppm")
    return out.getvalue()


def run(command, data):
    done = subprocess.run(command, input=data, capture_output=True)
    return done.stdout if done.returncode == 0 and done.stdout else None


def sequential_script(rng, components):
    """Every component once, in scans of one or more, in any order."""
    order = list(range(components))
    rng.shuffle(order)
    scans = []
    while order:
        take = rng.randint(1, len(order))
        scans.append(sorted(order[:take]))
        order = order[take:]
    return [",".join(map(str, scan)) + ";" for scan in scans]


def progressive_script(rng, components):
    low = rng.choice([0, 0, 1, 2])
    everything = [",".join(map(str, range(components)))]
    each = [str(c) for c in range(components)]
    first, second = rng.choice([everything, each]), rng.choice([everything, each])
    rng.shuffle(first)
    scans = [f"{which}: 0-0, 0, {low};" for which in first]
    rest = []
    for component in each:
        edges = sorted({1, 64, *(rng.randint(2, 63) for _ in range(rng.randint(0, 2)))})
        scans_here = []
        for start, end in zip(edges, edges[1:]):
            bit = rng.choice([0, 0, 1, 2, 3])
            scans_here.append([f"{component}: {start}-{end - 1}, 0, {bit};"])
            scans_here[-1] += [f"{component}: {start}-{end - 1}, {b}, {b - 1};" for b in range(bit, 0, -1)]
        rng.shuffle(scans_here)
        rest.append([scan for chain in scans_here for scan in chain])
    rest.append([f"{which}: 0-0, {b}, {b - 1};" for b in range(low, 0, -1) for which in second])
    merged = []
    while any(rest):
        chain = rng.choice([chain for chain in rest if chain])
        merged.append(chain.pop(0))
    # An encoder that was stopped, or wanted a smaller file, leaves scans out.
    if rng.random() < 0.15 and merged:
        merged = merged[: rng.randrange(len(merged))]
    return scans + merged


def encode(rng, image, components):
    """Through cjpeg; returns the settings and the file."""
    command = ["cjpeg", "-quality", str(rng.choice([5, 30, 60, 75, 85, 90, 95, 100]))]
    if components == 1:
        command.append("-grayscale")
        if rng.random() < 0.2:
            command += ["-sample", rng.choice(["2x2", "2x1", "1x2", "4x4"])]
    else:
        command += ["-sample", rng.choice(ORDINARY if rng.random() < 0.5 else SAMPLINGS)]
        if rng.random() < 0.1:
            command.append("-rgb")
    if rng.random() < 0.4:
        command.append("-optimize")
    return finish(rng, command, ppm(image), components)


def finish(rng, command, data, components):
    """Adds scans, restarts and the entropy coder to a command of cjpeg or jpegtran."""
    if rng.random() < 0.3:
        command += ["-restart", f"{rng.randint(1, 9)}{rng.choice(['', 'B'])}"]
    if rng.random() < 0.12:
        command.append("-arithmetic")
    kind = rng.choice(["one scan", "one scan", "sequential", "progressive", "script", "script"])
    script = None
    if kind == "progressive":
        command.append("-progressive")
    elif kind == "sequential":
        script = sequential_script(rng, components)
    elif kind == "script":
        script = progressive_script(rng, components)
    with tempfile.NamedTemporaryFile("w", suffix=".scans") as file:
        if script:
            file.write("\n".join(script))
            file.flush()
            command += ["-scans", file.name]
        made = run(command, data)
    shown = " ".join(part if not part.startswith("/") else " ".join(script) for part in command)
    return shown, made


def segments(data):
    """[(marker, its segment without marker and length)] up to the first scan, and the rest."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found, data[at:]


def join(found, rest, fill):
    out = b"\xff\xd8"
    for marker, body in found:
        out += fill() + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
    return out + fill() + rest


def adobe(transform):
    return (0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def mark(rng, data, notes):
    """Other markers, in other places."""
    found, rest = segments(data)
    choice = rng.random()
    if choice < 0.25:
        found = [segment for segment in found if segment[0] not in (0xE0, 0xEE)]
        notes.append("no JFIF")
    if rng.random() < 0.25:
        transform = rng.choice([0, 1, 2])
        found.insert(rng.randint(0, 1), adobe(transform))
        notes.append(f"Adobe {transform}")
    if rng.random() < 0.2:
        ids = rng.choice([b"RGB", b"\0\1\2", b"\1\2\3", b"\1\x22\x23", b"YCc", b"rgb"])
        at = next(i for i, (marker, _) in enumerate(found) if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))
        body = bytearray(found[at][1])
        if body[5] == 3:
            old = [body[6 + 3 * c] for c in range(3)]
            new = dict(zip(old, ids))
            for c in range(3):
                body[6 + 3 * c] = ids[c]
            found[at] = (found[at][0], bytes(body))
            rest = rename(rest, new)
            notes.append(f"ids {ids}")
    if rng.random() < 0.15:
        thumbnail = io.BytesIO()
        Image.new("RGB", (16, 8), "red").save(thumbnail, "JPEG")
        exif = Image.Exif()
        exif[0x0112] = 6
        found.insert(1, (0xE1, exif.tobytes() + thumbnail.getvalue()))
        notes.append("EXIF")
    if rng.random() < 0.1:
        found.insert(1, (0xE2, b"ICC_PROFILE\0\1\1" + bytes(rng.randrange(256) for _ in range(300))))
        notes.append("ICC")
    if rng.random() < 0.1:
        found.insert(rng.randint(0, len(found)), (rng.choice([0xFE, 0xE5, 0xED]), b"\xff\xd8 some \xff\xda words \xff\xd9"))
        notes.append("comment")
    if rng.random() < 0.05:
        rng.shuffle(found)
        found.sort(key=lambda segment: segment[0] in range(0xC0, 0xC3))
        notes.append("shuffled")
    fill = lambda: b""
    choice = rng.random()
    if choice < 0.08:
        fill = lambda: b"\xff" * rng.choice([0, 1, 3])
        notes.append("fill bytes")
    elif choice < 0.14:
        fill = lambda: rng.choice([b"", b"\0\0", b"junk", b"\x10" * 9]) if rng.random() < 0.3 else b""
        notes.append("garbage between markers")
    return join(found, rest, fill)


def rename(rest, new):
    """Other component numbers in every scan's header."""
    out, at = bytearray(rest), 0
    while at < len(out) - 4:
        if out[at] == 0xFF and out[at + 1] == 0xDA:
            for c in range(out[at + 4]):
                out[at + 5 + 2 * c] = new.get(out[at + 5 + 2 * c], out[at + 5 + 2 * c])
        at += 1
    return bytes(out)


def damage(rng, data, notes):
    choice = rng.random()
    if choice < 0.06:
        data = data[:-2]
        notes.append("no end mark")
    elif choice < 0.12:
        cut = rng.randint(1, 12)
        data = data[:-cut]
        notes.append(f"{cut} bytes cut")
    elif choice < 0.15:
        data = data[: rng.randrange(len(data))]
        notes.append(f"cut to {len(data)}")
    elif choice < 0.18:
        data += bytes(rng.randrange(256) for _ in range(rng.randint(1, 300)))
        notes.append("garbage behind")
    elif choice < 0.20:
        data = data[:-2] + bytes([rng.randrange(255) for _ in range(rng.randint(1, 30))]) + data[-2:]
        notes.append("garbage before the end mark")
    elif choice < 0.21:
        data = data[:-2] + data
        notes.append("twice")
    elif choice < 0.26:
        # Bytes of a scan: decoders go on with whatever they read.
        out, scan = bytearray(data), data.find(b"\xff\xda") + 14
        for _ in range(rng.randint(1, 3)):
            if scan < len(out) - 2:
                out[rng.randrange(scan, len(out) - 2)] = rng.randrange(255)
        data = bytes(out)
        notes.append("damaged scan")
    elif choice < 0.27:
        at = data.find(b"\xff\xc0")
        if at > 0:
            data = data[:at] + data[at : at + 19] + data[at:]
            notes.append("two frames")
    return data


def make(seed):
    """Returns a description and a file."""
    if not shutil.which("cjpeg") or not shutil.which("jpegtran"):
        raise SystemExit("install cjpeg and jpegtran (Debian: apt-get install libjpeg-turbo-progs)")
    rng = random.Random(seed)
    largest = rng.choice([8, 17, 33, 70, 70, 70, 200])
    width, height = rng.randint(1, largest), rng.randint(1, largest)
    if rng.random() < 0.2:
        # Chroma that ends at the image's edge.
        width, height = 16 * rng.randint(1, 12), 16 * rng.randint(1, 12)
    components = rng.choice([1, 3, 3, 3, 3, 3, 3, 4])
    made = None
    while made is None:
        image = picture(rng, width, height)
        if components == 4:
            out = io.BytesIO()
            image.convert("CMYK").save(out, "JPEG", quality=rng.choice([30, 75, 95]))
            made = out.getvalue()
            shown = "cmyk"
            if rng.random() < 0.7:
                shown, made = finish(rng, ["jpegtran", "-copy", "all"], made, 4)
        else:
            shown, made = encode(rng, image, components)
    notes = []
    data = damage(rng, mark(rng, made, notes), notes)
    return f"{width}x{height} {shown} [{', '.join(notes)}]", data
