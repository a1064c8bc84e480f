"""Evaluates one model on the same labelled images in every layout, written by other tools. All numbers must be equal.

    python experiments/evaluation/layouts.py RUN     (see compare.py)

Needs pillow, numpy, webdataset, pyarrow, pandas and `cargo build --release`. Images are 32x32.
"""
import gzip
import io
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from PIL import Image

COUPLET = pathlib.Path(__file__).parents[2] / "target/release/couplet"


def couplet(*arguments):
    run = subprocess.run([str(COUPLET), *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def main(run):
    work = pathlib.Path(tempfile.mkdtemp())
    couplet("data", "shapes", work / "drawn", "--format", "class-folder", "--samples", 400, "--image-size", 32)
    # Ten classes, as many as CIFAR-10's files can hold.
    names = sorted(path.name for path in (work / "drawn").iterdir())[:10]
    pictures, labels = [], []
    for label, name in enumerate(names):
        for path in sorted((work / "drawn" / name).iterdir()):
            pictures.append(np.array(Image.open(path).convert("RGB")))
            labels.append(label)
    # Grey images for MNIST's layout, and the same images in the other layouts.
    grey = [np.array(Image.fromarray(picture).convert("L")) for picture in pictures]
    for kind, images in (("colour", pictures), ("grey", grey)):
        folder = work / kind
        tables = {}

        for at, (picture, label) in enumerate(zip(images, labels)):
            path = folder / "classes" / f"{label}" / f"{at:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(picture))
        tables["class-folder"] = f'source = "class-folder"\npath = "{folder}/classes"'

        (folder / "wds/test").mkdir(parents=True)
        with webdataset.ShardWriter(f"{folder}/wds/test/%d.tar", maxcount=50, verbose=0) as sink:
            for at, (picture, label) in enumerate(zip(images, labels)):
                sink.write({"__key__": f"s{at:07}", "png": png(picture), "cls": label})
            shards = sink.shard
        (folder / "wds/test/nshards.txt").write_text(f"{shards}\n")
        tables["webdataset"] = f'source = "webdataset"\npath = "{folder}/wds"'

        column = pa.array([{"bytes": png(picture), "path": None} for picture in images])
        table = pa.table({"image": column, "label": labels, "name": [names[label] for label in labels]})
        pq.write_table(table, folder / "pairs.parquet", row_group_size=64)
        for column in ("label", "name"):
            tables[f"parquet, {column}"] = f'source = "parquet"\nfiles = "{folder}/pairs.parquet"\nlabel_column = "{column}"'

        rows = [(f"classes/{label}/{at:04}.png", label) for at, label in enumerate(labels)]
        pandas.DataFrame(rows, columns=["filepath", "label"]).to_csv(folder / "pairs.tsv", sep="\t", index=False)
        tables["tsv"] = f'source = "csv"\npath = "{folder}/pairs.tsv"\nlabel_column = "label"'

        if kind == "colour":
            for file, row in (("10/test_batch.bin", lambda label: [label]), ("100/test.bin", lambda label: [0, label])):
                path = folder / "cifar" / file
                path.parent.mkdir(parents=True)
                planes = [bytes(row(label)) + picture.transpose(2, 0, 1).tobytes() for picture, label in zip(images, labels)]
                path.write_bytes(b"".join(planes))
            tables["cifar10"] = f'source = "cifar"\nclasses = 10\npath = "{folder}/cifar/10"'
        else:
            idx = folder / "idx"
            idx.mkdir()
            with gzip.open(idx / "t10k-images-idx3-ubyte.gz", "wb") as file:
                file.write(struct.pack(">IIII", 0x803, len(images), 32, 32) + b"".join(p.tobytes() for p in images))
            (idx / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + bytes(labels))
            tables["idx"] = f'source = "idx"\npath = "{idx}"'

        print(f"| {kind} | top-1 | mean per class | images |\n|---|---|---|---|")
        seen = set()
        for name, table in tables.items():
            file = work / "dataset.toml"
            file.write_text(f'name = "set"\nclass_names = {json.dumps(names)}\n{table}\n')
            out = work / "report.json"
            couplet("eval", "zero-shot", "--model", run, "--dataset", file, "--json", out, "--no-cache")
            report = json.loads(out.read_text())[0]
            seen.add((report["top1"], report["mean_per_class"], report["images"]))
            print(f"| {name} | {report['top1']:.5f} | {report['mean_per_class']:.5f} | {report['images']} |")
        assert len(seen) == 1, "the layouts disagree"


main(sys.argv[1])
