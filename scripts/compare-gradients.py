#!/usr/bin/env python3
"""Compares the gradients of two runs of one step, tensor by tensor.

    python scripts/compare-gradients.py RUN REFERENCE --most 1e-3

AdamW's first moment after one step is the clipped gradient times 1 - beta_1, and clipping is a factor that both runs
have. Prints the largest differences, as |a - b| / |b| of each tensor, and ends with 1 if one is above --most. Needs
nothing but Python.
"""

import argparse
import array
import json
import math
import struct
import sys
from pathlib import Path


def moments(run):
    """The first moments of the run's only checkpoint, by the parameters' names."""
    (path,) = Path(run).glob("checkpoints/step-*/trainer/optimizer.safetensors")
    data = path.read_bytes()
    (header_len,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_len])
    found = {}
    for name, entry in header.items():
        if name.endswith(".exp_avg"):
            begin, end = entry["data_offsets"]
            values = array.array("f")
            values.frombytes(data[8 + header_len + begin : 8 + header_len + end])
            found[name.removesuffix(".exp_avg")] = values
    return found


def difference(own, reference):
    gap = math.sqrt(sum((a - b) ** 2 for a, b in zip(own, reference, strict=True)))
    size = math.sqrt(sum(b * b for b in reference))
    return gap / size if size > 0 else gap


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("reference")
    parser.add_argument("--most", type=float, required=True)
    arguments = parser.parse_args()
    own, reference = moments(arguments.run), moments(arguments.reference)
    if own.keys() != reference.keys():
        sys.exit("the runs train different parameters")
    found = sorted(((difference(own[name], reference[name]), name) for name in own), reverse=True)
    largest = found[0][0]
    print(f"{len(found)} tensors; largest differences:", ", ".join(f"{name} {value:.1e}" for value, name in found[:3]))
    sys.exit(not largest <= arguments.most)


if __name__ == "__main__":
    main()
