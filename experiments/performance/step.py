"""A training step beside PyTorch's eager step of the same open_clip model, alternating on the same cores.

    cargo build --release
    python experiments/performance/step.py [ROUNDS [MODEL:BATCH:TOKENS ...]]

AdamW, f32, as many threads as there are cores. TOKENS are a caption's, start and end included; PyTorch always computes
the whole context. Needs open_clip_torch==3.3.0 and torch.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

COUPLET = pathlib.Path(__file__).parents[2] / "target/release/couplet"
CASES = ["ViT-B-32:32:16", "ViT-B-32:32:77", "RN50:8:16"]
STEPS, WARM_UP = 3, 1


def ours(model, batch, tokens):
    command = [COUPLET, "bench", "step", "--model", model, "--batch", batch, "--caption-tokens", tokens, "--json",
               "--steps", str(STEPS), "--warm-up", str(WARM_UP), "--device", "flex"]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return out["step"]["median_seconds"], out["peak_memory_bytes"] / 2**20


def theirs(model, batch, tokens):
    command = [sys.executable, __file__, "--torch", model, batch, tokens]
    # The machine may name an old kernel for OpenBLAS, which PyTorch does not use.
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[1])


def torch_step(model, batch, tokens):
    import resource

    import open_clip
    import torch

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    net = open_clip.create_model(model)
    net.train()
    loss_of = open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    size = net.visual.image_size
    images = torch.randn(batch, 3, *(size if isinstance(size, tuple) else (size, size)))
    text = torch.zeros(batch, 77, dtype=torch.long)
    text[:, : tokens - 1] = torch.randint(0, 500, (batch, tokens - 1))
    text[:, tokens - 1] = 49407
    seconds = []
    for at in range(WARM_UP + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        image, caption, scale = net(images, text)
        loss_of(image, caption, scale).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    median = sorted(seconds[WARM_UP:])[STEPS // 2]
    print(median, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(rounds=2, *cases):
    print("| model | batch | caption tokens | Couplet, s | PyTorch, s | speed ratio | Couplet, MiB | PyTorch, MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases or CASES:
        model, batch, tokens = case.split(":")
        for _ in range(int(rounds)):
            (own, memory), (other, other_memory) = ours(model, batch, tokens), theirs(model, batch, tokens)
            print(f"| {model} | {batch} | {tokens} | {own:.2f} | {other:.2f} | {other / own:.2f} | {memory:.0f} "
                  f"| {other_memory:.0f} |", flush=True)


if sys.argv[1:2] == ["--torch"]:
    torch_step(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
else:
    main(*sys.argv[1:])
