"""Writes the first files of differential.py with PIL's pixels, as the fixture of couplet-data's tests.

    python experiments/data/fixture.py      (needs what differential.py needs; made with pillow 13.0.0)

`images.bin` holds, one after the other: the length of the recipe and the recipe, the length of the file and
the file, and PIL's width, height and CRC-32 of the RGB bytes, or three zeros where PIL refuses the file.
Numbers are little-endian u32.
"""
import importlib
import pathlib
import struct
import zlib

from differential import NO_REFERENCE, ROUNDED, UNDEFINED, pil

FIXTURE = pathlib.Path(__file__).parents[2] / "crates/couplet-data/tests/fixtures/images.bin"
COUNTS = {"jpeg": 80, "gif": 30, "png": 40, "tiff": 40, "bmp": 12, "webp": 6}
LARGEST = 1200


def main():
    out = b""
    for kind, count in COUNTS.items():
        make = importlib.import_module(f"make_{kind}").make
        seed = 0
        while count:
            recipe, data = make(seed)
            theirs = pil(data)
            no_reference = isinstance(theirs, str) and any(message in theirs for message in NO_REFERENCE.get(kind, []))
            if len(data) <= LARGEST and not no_reference and not any(note in recipe for note in UNDEFINED + ROUNDED):
                name = f"{kind} {seed}: {recipe}".encode()
                out += struct.pack("<I", len(name)) + name + struct.pack("<I", len(data)) + data
                if isinstance(theirs, str):
                    out += struct.pack("<III", 0, 0, 0)
                else:
                    out += struct.pack("<III", theirs.shape[1], theirs.shape[0], zlib.crc32(theirs.tobytes()))
                count -= 1
            seed += 1
    FIXTURE.write_bytes(out)
    print(len(out), "bytes")


main()
