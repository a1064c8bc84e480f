#!/usr/bin/env python3
"""Kills and damages a tiny run again and again, and checks that nothing is lost in silence.

    scripts/checkpoint-trials.py target/release/couplet --kills 200 --calls 100 --damages 500 --seed 1

--kills N    N runs, each killed (SIGKILL) at random moments and resumed until it ends: its losses must
             be those of a run that never stopped, bit for bit, and `couplet verify` finds no damage.
--calls N    N runs, each killed at one system call that writes, syncs, renames or deletes (needs strace),
             and then resumed, with the same result.
--damages N  N damages to a run's folder (a flipped bit, zeros, a cut or missing file, a file of an older
             checkpoint, another number in state.json). The resumed run must name the file and refuse, or
             name it and continue from an earlier checkpoint, or end with the same losses.

Needs Python 3.9 and nothing else. Exit code 1 if a trial failed; its folder is kept.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

CONFIG = """
name = "tiny"
device = "flex"
[model]
embed_dim = 16
[model.image]
kind = "vit"
image_size = 16
patch_size = 8
width = 16
layers = 1
heads = 2
[model.text]
context_length = 16
vocab_size = 49408
width = 8
layers = 1
heads = 2
[data.train]
source = "shapes"
samples = 80
[batch]
global = 8
[optimizer]
kind = "adamw"
lr = 1e-3
[schedule]
kind = "cosine"
length = "30 steps"
warmup = "4 steps"
[ema]
decay = 0.9
[checkpoint]
every = "3 steps"
keep = 4
[log]
every = "1 step"
"""
LIMIT = 60  # seconds, after which a trial hangs
CALLS = ["write", "fsync", "fdatasync", "rename", "unlink", "unlinkat", "rmdir", "mkdir", "ftruncate"]
NUMBER = re.compile(r"(?<=: )-?\d+(\.\d+)?(e-?\d+)?")


class Trials:
    def __init__(self, binary, folder, seed):
        self.binary, self.folder = str(Path(binary).resolve()), folder
        self.random = random.Random(seed)
        self.results, self.failed = Counter(), 0
        (folder / "tiny.toml").write_text(CONFIG)
        whole = self.train("whole", resume=False)
        if whole.returncode != 0:
            sys.exit(f"the run failed:\n{whole.stdout}")
        self.losses = losses(folder / "whole")
        assert len(self.losses) == 30, self.losses

    def command(self, run, resume=True):
        more = ["--resume"] if resume else []
        return [self.binary, "train", "tiny.toml", "--run-dir", run, *more]

    def run(self, command):
        try:
            return subprocess.run(command, cwd=self.folder, text=True, errors="replace", timeout=LIMIT,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired as error:
            return subprocess.CompletedProcess(command, 99, f"{error.stdout}\nhangs for {LIMIT} s")

    def train(self, run, resume=True, before=()):
        return self.run([*before, *self.command(run, resume)])

    def differs(self, run):
        """Why a finished run is not the one that never stopped, if so."""
        if losses(self.folder / run) != self.losses:
            return "other losses"
        verified = self.run([self.binary, "verify", run])
        return None if verified.returncode == 0 else f"verify: {verified.stdout}"

    def record(self, kind, run, failure, output=""):
        if failure is None:
            shutil.rmtree(self.folder / run, ignore_errors=True)
            return
        self.failed += 1
        self.results[f"{kind}: FAILED"] += 1
        print(f"FAILED {kind} in {self.folder / run}: {failure}\n{output}", flush=True)

    def kill_at_random_moments(self, count):
        start = time.monotonic()
        self.train("timed", resume=False)
        duration = time.monotonic() - start
        for trial in range(count):
            run, kills = f"kill-{trial}", 0
            while True:
                with open(os.devnull, "w") as nothing:
                    child = subprocess.Popen(self.command(run), cwd=self.folder, stdout=nothing,
                                             stderr=nothing)
                    try:
                        child.wait(self.random.uniform(0, duration))
                        break
                    except subprocess.TimeoutExpired:
                        child.send_signal(signal.SIGKILL)
                        child.wait()
                        kills += 1
                if kills > 20:
                    child = self.train(run)
                    break
            self.results["kills"] += kills
            failure = f"exit code {child.returncode}" if child.returncode else self.differs(run)
            self.record("kill", run, failure)

    def kill_at_calls(self, count):
        if not shutil.which("strace"):
            print("--calls: not tried, there is no strace")
            return
        log = self.folder / "strace.log"
        names = ",".join(CALLS)
        self.train("traced", resume=False, before=["strace", "-f", "-o", log, "-e", f"trace={names}"])
        made = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(errors="replace"), re.M))
        # In turns, since most calls are those of `write`.
        left = {call: self.random.sample(range(1, made[call] + 1), made[call]) for call in CALLS}
        moments = []
        while len(moments) < count and any(left.values()):
            moments += [(call, whens.pop()) for call, whens in left.items() if whens]
        for call, when in moments[:count]:
            run = f"call-{call}-{when}"
            inject = ["strace", "-f", "-o", os.devnull, "-e", f"trace={call}",
                      "-e", f"inject={call}:signal=KILL:when={when}"]
            self.train(run, before=inject)
            resumed = self.train(run)
            failure = f"exit code {resumed.returncode}" if resumed.returncode else self.differs(run)
            self.results[f"calls: {call}"] += 1
            self.record("call", run, failure, resumed.stdout)

    def damage(self, count):
        base = self.folder / "base"
        shutil.copytree(self.folder / "whole", base)
        checkpoints = sorted((base / "checkpoints").iterdir())
        older, newest = checkpoints[-3:-1]
        shutil.rmtree(checkpoints[-1])
        (base / "latest").write_text(newest.name + "\n")
        newest_step = int(newest.name.removeprefix("step-"))
        files = [path.relative_to(base) for path in sorted(newest.rglob("*")) if path.is_file()]
        files += [Path(name) for name in ("latest", "run.json", "metrics.jsonl", "config.toml")]
        kinds = [self.flip, self.zeros, self.cut, self.remove, self.empty]
        table = [(file, kind) for file in files for kind in kinds]
        in_checkpoint = [file for file in files if file.parts[0] == "checkpoints"]
        table += [(file, self.older) for file in in_checkpoint]
        state = next(file for file in files if file.name == "state.json")
        table += [(state, self.number)] * 8
        self.older_name = older.name
        for trial in range(count):
            if trial % len(table) == 0:
                self.random.shuffle(table)
            file, kind = table[trial % len(table)]
            run = f"damage-{trial}"
            shutil.copytree(base, self.folder / run)
            path = self.folder / run / file
            before = path.read_bytes()
            what = kind(path)
            if path.exists() and path.read_bytes() == before:
                self.results["damages: changed nothing"] += 1
                shutil.rmtree(self.folder / run)
                continue
            resumed = self.train(run)
            out = resumed.stdout
            found, wanted = losses(self.folder / run), self.losses
            if file.name == "metrics.jsonl":
                # Its own numbers are damaged; those of the steps that follow are not.
                found, wanted = ({step: loss for step, loss in all.items() if step > newest_step}
                                 for all in (found, wanted))
            same = found == wanted
            says = {"manifest.json": "has no manifest", "config.toml": "the config"}
            named = file.name in out or says.get(file.name, file.name) in out
            if "panicked" in out or resumed.returncode not in (0, 1, 2):
                outcome, failure = "crashed", f"exit code {resumed.returncode}"
            elif resumed.returncode != 0:
                outcome, failure = "refused", None if named else "refused without naming the file"
            elif not same:
                outcome, failure = "other losses", "continued with other losses"
            elif named:
                outcome, failure = "named, same losses", None
            else:
                outcome = f"same losses, nothing said ({file.name})"
                harmless = file.name in ("run.json", "config.toml", "metrics.jsonl", "manifest.json")
                failure = None if harmless else "continued without naming the file"
            self.results[f"damages: {outcome}"] += 1
            self.record("damage", run, failure and f"{file}, {what}: {failure}", out)

    def flip(self, path):
        data = bytearray(path.read_bytes())
        at, bit = self.random.randrange(len(data)), self.random.randrange(8)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        return f"bit {bit} of byte {at} flipped"

    def zeros(self, path):
        data = bytearray(path.read_bytes())
        at = self.random.randrange(0, len(data), 4096)
        data[at:at + 4096] = bytes(len(data[at:at + 4096]))
        path.write_bytes(data)
        return f"zeros from byte {at}"

    def cut(self, path):
        length = self.random.randrange(path.stat().st_size)
        os.truncate(path, length)
        return f"cut to {length} bytes"

    def remove(self, path):
        path.unlink()
        return "removed"

    def empty(self, path):
        path.write_bytes(b"")
        return "emptied"

    def older(self, path):
        parts = list(path.parts)
        parts[parts.index("checkpoints") + 1] = self.older_name
        shutil.copyfile(Path(*parts), path)
        return "replaced by that of an older checkpoint"

    def number(self, path):
        text = path.read_text()
        place = self.random.choice(list(NUMBER.finditer(text)))
        other = self.random.choice(["0", "1", "7", "-1", "1e300", "9223372036854775807", "4000000000",
                                    "0.5", str(float(place[0]) * 2).removesuffix(".0")])
        path.write_text(text[:place.start()] + other + text[place.end():])
        return f"{place[0]} became {other} at byte {place.start()}"


def losses(run):
    """The losses by step as they are written, digit for digit."""
    found, log = {}, run / "metrics.jsonl"
    text = log.read_text(errors="replace") if log.exists() else ""
    for line in text.splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        loss = re.search(r'"loss":([^,}]+)', line)
        if loss:
            found[step] = loss[1]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("binary")
    for name in ("kills", "calls", "damages", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-trials-"))
    trials = Trials(arguments.binary, folder, arguments.seed)
    trials.kill_at_random_moments(arguments.kills)
    trials.kill_at_calls(arguments.calls)
    trials.damage(arguments.damages)
    for result, count in sorted(trials.results.items()):
        print(f"{count:6}  {result}")
    if trials.failed:
        sys.exit(f"{trials.failed} trials failed; see {folder}")
    shutil.rmtree(folder)
    print("nothing was lost in silence")


if __name__ == "__main__":
    main()
