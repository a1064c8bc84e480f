#!/usr/bin/env python3
"""Kills ranks of a tiny run at random moments, and checks that each job ends and goes on where it was.

    scripts/rank-trials.py target/release/couplet --kills 20 --seed 1

Each trial starts 2 or 4 ranks under Open MPI's mpirun, kills one of them (SIGKILL) at a random moment, and
resumes with 1, 2 or 4 ranks until the run is over. The job must be over within 15 seconds of the kill and name
the rank; the folder must have no damage, and where the run went on, a checkpoint of its last logged step; the
losses must be those of one rank within 1e-5.

The binary needs the feature `mpi`. Needs Python 3.9 and Linux. Exit code 1 if a trial failed; its folder is kept.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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
length = "60 steps"
warmup = "4 steps"
[checkpoint]
every = "7 steps"
[log]
every = "1 step"
"""
LIMIT = 60  # seconds, after which a launch hangs
OVER = 15  # seconds from a kill to the end of its job
TOLERANCE = 1e-5
STEPS = 60


class Trials:
    def __init__(self, binary, mpirun, folder, seed):
        self.binary, self.mpirun, self.folder = str(Path(binary).resolve()), mpirun, folder
        self.random = random.Random(seed)
        (folder / "tiny.toml").write_text(CONFIG)
        begun = time.monotonic()
        code, said, _ = self.run("whole", 1)
        if code != 0:
            sys.exit(f"the run failed:\n{said}")
        self.seconds = time.monotonic() - begun
        self.losses = losses(folder / "whole")
        assert len(self.losses) == STEPS, self.losses

    def run(self, run, ranks, kill=None):
        """Starts ranks. kill: (rank, seconds). Returns the exit code, the output and the seconds from the kill."""
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                           RAYON_NUM_THREADS="1")
        command = [self.mpirun, "-n", str(ranks), "--oversubscribe", "--bind-to", "none", self.binary, "train",
                   "tiny.toml", "--run-dir", run, "--resume"]
        said = self.folder / f"{run}.out"
        before = said.stat().st_size if said.exists() else 0

        def printed():
            return said.read_bytes()[before:].decode(errors="replace")

        with open(said, "a") as output:
            job = subprocess.Popen(command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT)
            killed = None
            try:
                if kill:
                    try:
                        job.wait(kill[1])
                    except subprocess.TimeoutExpired:
                        process = rank_of(job.pid, kill[0])
                        if process:
                            os.kill(process, signal.SIGKILL)
                            killed = time.monotonic()
                job.wait(LIMIT)
            except subprocess.TimeoutExpired:
                for rank in range(ranks):
                    process = rank_of(job.pid, rank)
                    if process:
                        os.kill(process, signal.SIGKILL)
                job.kill()
                job.wait()
                return 99, printed() + f"\nhangs for {LIMIT} s", None
        over = time.monotonic() - killed if killed else None
        return job.returncode, printed(), over

    def trial(self, run):
        """What was wrong, if anything, and how often a rank was killed."""
        kills, slowest = 0, 0.0
        for _ in range(4):
            ranks = self.random.choice([2, 4])
            victim = self.random.randrange(ranks)
            code, said, over = self.run(run, ranks, (victim, self.random.uniform(0.1, 1.5 * self.seconds)))
            if over is None:
                if code != 0:
                    return f"exit code {code} without a kill\n{said}", kills, slowest
                break
            kills, slowest = kills + 1, max(slowest, over)
            if over > OVER:
                return f"over after {over:.1f} s\n{said}", kills, slowest
            # Before the ranks have met, mpirun says it, and after the run is over, nobody needs to.
            has_met = "ranks      " in said and "finished" not in said and "nothing to do" not in said
            if has_met and f"rank {victim} (process" not in said:
                return f"does not name rank {victim}\n{said}", kills, slowest
            folder = self.folder / run
            if (folder / "latest").exists():
                verified = subprocess.run([self.binary, "verify", str(folder)], text=True, timeout=LIMIT,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                if verified.returncode != 0:
                    return f"verify: {verified.stdout}\n{said}", kills, slowest
        code, said, _ = self.run(run, self.random.choice([1, 2, 4]))
        if code != 0:
            return f"exit code {code}\n{said}", kills, slowest
        found = losses(self.folder / run)
        if found.keys() != self.losses.keys():
            return f"steps {sorted(found)}", kills, slowest
        worst = max(abs(loss - self.losses[step]) for step, loss in found.items())
        if worst > TOLERANCE:
            return f"losses differ by {worst}", kills, slowest
        return None, kills, slowest


def rank_of(launcher, rank):
    """The process of a rank."""
    wanted = f"OMPI_COMM_WORLD_RANK={rank}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == launcher and wanted in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except (OSError, IndexError):
            continue
    return None


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--kills", type=int, default=20, help="trials, each with up to four kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mpirun", default=shutil.which("mpirun.openmpi") or "mpirun")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rank-trials-"))
    trials = Trials(arguments.binary, arguments.mpirun, folder, arguments.seed)
    failed, kills, slowest = 0, 0, 0.0
    for trial in range(arguments.kills):
        failure, killed, over = trials.trial(f"trial-{trial}")
        kills, slowest = kills + killed, max(slowest, over)
        if failure:
            failed += 1
            print(f"FAILED trial-{trial} in {folder}: {failure}", flush=True)
    print(f"{arguments.kills} trials, {kills} ranks killed, jobs over after at most {slowest:.1f} s; {failed} failed")
    if not failed:
        shutil.rmtree(folder)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
