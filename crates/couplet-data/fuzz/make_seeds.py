"""Writes small valid files as seeds for the fuzzers.

    python make_seeds.py FOLDER      writes FOLDER/{tar,image,csv}/   (needs pillow)
"""
import io
import json
import pathlib
import sys
import tarfile

from PIL import Image


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
    files["csv"] = [
        b"filepath,title\na.jpg,a cat\n\"b,c.jpg\",\"two\nlines\"\n", b"filepath\ttitle\na.jpg\ta dog\n",
        "\ufefftitle,x,filepath\n\"caf\u00e9\",1,b.png\n".encode(), b"filepath,title\r\n,\r\nx,\xff\xfe\r\n",
    ]
    for target, contents in files.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for at, data in enumerate(contents):
            (folder / target / f"seed-{at:02}").write_bytes(data)


main(sys.argv[1])
