"""Compares a training step with PyTorch's of the same open_clip model, alternating on the same device.

    cargo build --release
    python experiments/performance/step.py [ROUNDS [MODEL:BATCH:TOKENS ...]] [--device cuda:0 --precision bf16
        --compile --largest] [--binary COUPLET]

Both use AdamW, and on the CPU as many threads as there are cores. TOKENS is the number of tokens in a caption, with
start and end tokens; PyTorch always computes the full context. PyTorch runs eagerly, and with --compile also under
torch.compile. --largest doubles each BATCH as long as it fits in memory for all of them. In bf16, PyTorch runs under
autocast, like open_clip's amp_bf16. Memory is the peak of the process on the CPU, and the peak that nvidia-smi
reports on a GPU. Needs open_clip_torch==3.3.0 and torch, but no network.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

COUPLET = pathlib.Path(__file__).parents[2] / "target/release/couplet"
CASES = {"cpu": ["ViT-B-32:32:16", "ViT-B-32:32:77", "RN50:8:16"],
         "gpu": ["ViT-B-32:256:77", "ViT-B-16:128:77", "ViT-L-14:32:77", "RN50:128:77"]}
STEPS, WARM_UP = {"cpu": 3, "gpu": 20}, {"cpu": 1, "gpu": 5}


def kind(device):
    return "cpu" if device == "flex" else "gpu"


def run(command, device):
    """A process's output and the GPU's peak MiB; no output if the process fails."""
    most, over = [0], threading.Event()

    def watch():
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", device.partition(":")[2] or "0"]
        while not over.wait(0.2):
            most[0] = max(most[0], int(subprocess.run(query, capture_output=True, text=True).stdout or 0))

    watcher = threading.Thread(target=watch)
    if device.startswith("cuda"):
        watcher.start()
    done = subprocess.run(command, capture_output=True, text=True)
    over.set()
    if watcher.is_alive():
        watcher.join()
    if done.returncode:
        print(f"{' '.join(map(str, command))}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None, 0
    return done.stdout, most[0]


def ours(options, model, batch, tokens):
    at = kind(options.device)
    text, mib = run([options.binary, "bench", "step", "--model", model, "--batch", str(batch), "--caption-tokens", tokens,
                     "--json", "--steps", str(STEPS[at]), "--warm-up", str(WARM_UP[at]), "--device", options.device,
                     "--precision", options.precision], options.device)
    if text is None:
        return None
    out = json.loads(text)
    return out["step"]["median_seconds"], mib or (out["peak_memory_bytes"] or 0) / 2**20


def theirs(options, model, batch, tokens, compiled):
    text, mib = run([sys.executable, __file__, "--torch", model, str(batch), tokens, options.device, options.precision,
                     str(int(compiled))], options.device)
    if text is None:
        return None
    seconds, peak = map(float, text.split()[-2:])
    return seconds, mib or peak


def torch_step(model, batch, tokens, device, precision, compiled):
    import resource

    import open_clip
    import torch

    at = kind(device)
    device = "cpu" if at == "cpu" else device
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    # As in open_clip's training.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    net = open_clip.create_model(model, device=device)
    net.train()
    loss_of = open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    size = net.visual.image_size
    if compiled:
        net = torch.compile(net)
    images = torch.randn(batch, 3, *(size if isinstance(size, tuple) else (size, size)), device=device)
    text = torch.zeros(batch, 77, dtype=torch.long)
    text[:, : tokens - 1] = torch.randint(0, 500, (batch, tokens - 1))
    text[:, tokens - 1] = 49407
    text = text.to(device)
    seconds = []
    for _ in range(WARM_UP[at] + STEPS[at]):
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bf16"):
            image, caption, scale = net(images, text)
            loss = loss_of(image, caption, scale)
        loss.backward()
        optimizer.step()
        if at == "gpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    median = sorted(seconds[WARM_UP[at]:])[STEPS[at] // 2]
    print(median, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def sides(options, model, batch, tokens):
    """Seconds and MiB of Couplet, PyTorch and, with --compile, compiled PyTorch."""
    found = [ours(options, model, batch, tokens), theirs(options, model, batch, tokens, False)]
    if options.compile:
        found.append(theirs(options, model, batch, tokens, True))
    return found


def largest(options, model, batch, tokens):
    """The largest of batch, 2 batch, 4 batch ... that fits in memory for all sides."""
    while all(sides(options, model, 2 * batch, tokens)):
        batch *= 2
    return batch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=2)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--device", default="flex")
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--largest", action="store_true")
    parser.add_argument("--binary", default=COUPLET)
    options = parser.parse_args()
    names = ["Couplet", "PyTorch"] + ["compiled"] * options.compile
    heads = [f"{name}, s" for name in names] + [f"speed ratio to {name}" for name in names[1:]]
    print("| model | batch | caption tokens |", " | ".join(heads + [f"{name}, MiB" for name in names]), "|")
    print("|---" * (3 + 3 * len(names) - 1) + "|")
    for case in options.cases or CASES[kind(options.device)]:
        model, batch, tokens = case.split(":")
        batch = largest(options, model, int(batch), tokens) if options.largest else int(batch)
        for _ in range(options.rounds):
            found = sides(options, model, batch, tokens)
            seconds = [side[0] if side else float("nan") for side in found]
            cells = [f"{s:.3f}" for s in seconds] + [f"{s / seconds[0]:.2f}" for s in seconds[1:]]
            cells += [f"{side[1]:.0f}" if side else "failed" for side in found]
            print(f"| {model} | {batch} | {tokens} |", " | ".join(cells), "|", flush=True)


if sys.argv[1:2] == ["--torch"]:
    model, batch, tokens, device, precision, compiled = sys.argv[2:]
    torch_step(model, int(batch), int(tokens), device, precision, compiled == "1")
else:
    main()
