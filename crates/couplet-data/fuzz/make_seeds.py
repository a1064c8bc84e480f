"""Writes small valid files as seeds for the fuzzers.

    python make_seeds.py FOLDER      writes a folder for each target to FOLDER   (needs pillow and pyarrow)
"""
import gzip
import io
import json
import pathlib
import sys
import struct
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FIXTURES = pathlib.Path(__file__).parent.parent / "tests" / "fixtures"


def image_files():
    image = Image.new("RGB", (24, 18), (200, 90, 10))
    image.putpixel((3, 4), (0, 255, 9))
    for name, options in [
        ("jpeg", {"quality": 90}), ("jpeg", {"progressive": True}), ("jpeg", {"subsampling": 0}), ("png", {}),
        ("webp", {}), ("webp", {"lossless": True}), ("gif", {}), ("bmp", {}), ("tiff", {}), ("tiff", {"compression": "tiff_lzw"}),
    ]:
        out = io.BytesIO()
        image.save(out, name, **options)
        yield name, out.getvalue()
    for mode in ("L", "CMYK"):
        out = io.BytesIO()
        image.convert(mode).save(out, "jpeg")
        yield "jpeg", out.getvalue()
    for mode in ("P", "LA", "1", "I;16"):
        out = io.BytesIO()
        image.convert("L").convert(mode).save(out, "png")
        yield "png", out.getvalue()


def shard(kind, members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def main(folder):
    folder = pathlib.Path(folder)
    files = {"image": [data for _, data in image_files()], "tar": [], "csv": []}
    fixture = json.loads((pathlib.Path(__file__).parent / "../tests/fixtures/tokenizers.json").read_text())
    files["tokenizer"] = [json.dumps(one).encode() for one in fixture["tokenizers"].values()]
    jpeg = files["image"][0]
    members = [("a/1.jpg", jpeg), ("a/1.txt", b"a cat"), ("2.jpg", jpeg), ("2.json", b'{"caption": "x"}'), ("3.txt", b"x")]
    long = [("d" * 120 + ".jpg", jpeg), ("d" * 120 + ".txt", b"long")]
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        files["tar"].append(shard(kind, members + (long if kind != tarfile.USTAR_FORMAT else [])))
    files["tar"] += [path.read_bytes() for path in sorted((FIXTURES / "shards").iterdir())]
    # The map of a sparse file is read from what is not compressed.
    files["tar"] += [gzip.decompress(path.read_bytes()) for path in sorted((FIXTURES / "shards").glob("sparse*"))]
    files["csv"] = [
        b"filepath,title\na.jpg,a cat\n\"b,c.jpg\",\"two\nlines\"\n", b"filepath\ttitle\na.jpg\ta dog\n",
        "\ufefftitle,x,filepath\n\"caf\u00e9\",1,b.png\n".encode(), b"filepath,title\r\n,\r\nx,\xff\xfe\r\n",
    ]
    files["csv"] += [b"filepath,title\n1.jpg,\"a\n2.jpg,b\n3.jpg,\"c\"\n", b"filepath,title\n1.jpg,\"a\nb\",c\n2.jpg,d\n"]
    captions = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}
    sample = {"caption": ["a cat", "a dog"], "width": float("nan")}
    files["json"] = [json.dumps(one).encode() for one in (captions, captions | {"info": float("inf")}, sample)]
    files["json"].append(b"\xef\xbb\xbf" + files["json"][2])
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 4, 4) + bytes(32) + bytes([0, 0, 8, 1]) + struct.pack(">I", 2) + bytes(2)
    npy = b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }".ljust(69) + b"\n" + bytes(16)
    files["arrays"] = [bytes(3073 * 2), bytes(3074), idx, npy]
    table = {"image": [jpeg, None], "caption": ["a cat", "a dog"], "label": [0, 1]}
    files["parquet"] = []
    for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
        out = io.BytesIO()
        pq.write_table(pa.table(table), out, compression=codec, data_page_version="2.0" if codec == "none" else "1.0")
        files["parquet"].append(out.getvalue())
    files["parquet"].append((FIXTURES / "hugging_face.parquet").read_bytes())
    # The target sets the shard's length and the digest of its headers.
    names = ["0.png", "0.txt", "1.png", "1.txt"]
    spans = [[name, {"offset": 512 + 1024 * at, "len": 5}] for at, name in enumerate(names)]
    spans[2][1]["sparse"] = {"len": 9, "pieces": [[2, 3], [6, 2]]}
    damage = [{"place": "byte 9", "message": "x", "lost": {"part": 0.5}}]
    index = {"version": 2, "shard_len": 0, "headers": 0, "members": spans, "damage": damage}
    files["index"] = [json.dumps(index).encode(), json.dumps(index | {"version": 1}).encode()]
    for target, contents in files.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for at, data in enumerate(contents):
            (folder / target / f"seed-{at:02}").write_bytes(data)


main(sys.argv[1])
