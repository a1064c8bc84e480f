#!/usr/bin/env python3
"""Counts the kernels that one training step launches on a GPU, by CubeCL's own log.

    cargo build --release --features wgpu
    python experiments/performance/launches.py target/release/couplet --model ViT-B-32

Needs any driver, such as Mesa's software one: it counts, and times nothing. The difference of two and one timed steps
is a step. With --burn, Burn's own operations are counted (COUPLET_KERNELS=0).
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def count(arguments, steps):
    """The launches of each kernel in a benchmark of so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "launches.log"
        config = f'[profiling]\nlogger = {{ level = "minimal", file = "{log}" }}\n'
        (Path(folder) / "cubecl.toml").write_text(config)
        command = [str(Path(arguments.binary).resolve()), "bench", "step", "--device", arguments.device]
        command += ["--model", arguments.model, "--batch", str(arguments.batch), "--precision", arguments.precision]
        command += ["--caption-tokens", "16", "--warm-up", "1", "--steps", str(steps)]
        environment = dict(os.environ, COUPLET_KERNELS="0" if arguments.burn else "1")
        done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=600)
        if done.returncode != 0:
            sys.exit(done.stderr)
        lines = [line for line in log.read_text().splitlines() if line.startswith("Executing ")]
    # A kernel's name ends in a hash of its settings.
    names = (re.sub(r"_[0-9a-f]{6,}$", "", line.removeprefix("Executing ")) for line in lines)
    return collections.Counter(name[:60] for name in names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="wgpu")
    parser.add_argument("--burn", action="store_true")
    arguments = parser.parse_args()
    one, two = count(arguments, 1), count(arguments, 2)
    step = {name: two[name] - one[name] for name in two if two[name] > one[name]}
    print(f"{sum(step.values())} launches in a step of {arguments.model}")
    for name, launches in sorted(step.items(), key=lambda item: -item[1])[:20]:
        print(f"{launches:7} {name}")


if __name__ == "__main__":
    main()
