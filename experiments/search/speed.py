"""Times exact search in a million rows beside NumPy's product and partition, in turn.

    python speed.py COUPLET INDEX [ROWS]

INDEX is one that `couplet index` wrote with any model; its model answers, its width is kept, and ROWS (1,000,000) random
rows take the place of its own, in a temporary folder. Both sides read the same file from memory. Needs NumPy."""
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

couplet, source = sys.argv[1:3]
rows = int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000
manifest = json.load(open(os.path.join(source, "index.json")))
width = manifest["embed_dim"]
line = b'{"image":0,"file":"none","key":"0"}\n'

with tempfile.TemporaryDirectory() as folder:
    random = np.random.default_rng(0)
    with open(os.path.join(folder, "features.npy"), "wb") as file:
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}"
        file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode().ljust(117) + b"\n")
        for start in range(0, rows, 50_000):
            some = random.standard_normal((min(50_000, rows - start), width), dtype=np.float32)
            file.write((some / np.linalg.norm(some, axis=1, keepdims=True)).tobytes())
    with open(os.path.join(folder, "rows.jsonl"), "wb") as file:
        file.write(line * rows)
    (np.arange(rows, dtype="<u8") * len(line)).tofile(os.path.join(folder, "rows.offsets"))
    open(os.path.join(folder, "skipped.jsonl"), "w").close()
    manifest.update(total=rows, done=rows, rows=rows, skipped=0, row_bytes=rows * len(line), skipped_bytes=0)
    json.dump(manifest, open(os.path.join(folder, "index.json"), "w"))

    features = np.load(os.path.join(folder, "features.npy"), mmap_mode="r")
    query = np.array(features[rows // 2])
    features @ query
    ours, numpy, whole = [], [], []
    found = os.path.join(folder, "found.json")
    for _ in range(7):
        begin = time.perf_counter()
        subprocess.run([couplet, "search", folder, "a red circle", "--json", found], check=True, capture_output=True)
        whole.append(time.perf_counter() - begin)
        ours.append(json.load(open(found))["seconds"])
        begin = time.perf_counter()
        scores = features @ query
        best = np.argpartition(-scores, 10)[:10]
        best = best[np.argsort(-scores[best])]
        numpy.append(time.perf_counter() - begin)
    for name, times in [("search", ours), ("NumPy", numpy), ("couplet search, from start to end", whole)]:
        print(f"{name}: {1000 * np.median(times):.0f} ms ({1000 * min(times):.0f} to {1000 * max(times):.0f})")
    print(f"NumPy / search: {np.median(numpy) / np.median(ours):.2f}")
