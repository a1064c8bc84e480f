"""Measures the loader's resident memory, in MiB, at intervals while it streams.

    python experiments/data/make_shards.py SHARDS
    python experiments/data/memory.py SHARDS [SAMPLES]

Settings: random resized crop to 224, batch 64, 2 threads, stream = true. Needs `cargo build --release`.
"""
import pathlib
import subprocess
import sys
import tempfile
import time

CONFIG = """
[data]
threads = 2
[data.train]
source = "webdataset"
shards = "{shards}/*.tar"
stream = true
samples_per_epoch = 100_000
[data.train.augment]
random_resized_crop = {{ scale = [0.9, 1.0] }}
"""


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def main(folder, samples=50_000):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(CONFIG.format(shards=folder))
        config.flush()
        command = ["target/release/couplet", "data", "bench", config.name, "--json", "--seconds"]
        speed = subprocess.run([*command, "5"], check=True, capture_output=True, text=True).stdout
        speed = float(speed.split('"samples_per_second": ')[1].split(",")[0])
        seconds = samples / speed
        run = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True)
        print("| seconds | MiB |\n|---|---|")
        start, seen = time.monotonic(), []
        while run.poll() is None:
            time.sleep(seconds / 10)
            if run.poll() is None:
                seen.append(resident(run.pid))
                print(f"| {time.monotonic() - start:.0f} | {seen[-1]:.0f} |", flush=True)
        count = run.stdout.read().split('"samples": ')[1].split(",")[0]
        print(f"\n{count} samples, at most {max(seen):.0f} MiB")


main(sys.argv[1], *map(int, sys.argv[2:3]))
