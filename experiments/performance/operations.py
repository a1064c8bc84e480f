"""Times in PyTorch what crates/couplet-train/examples/operations.rs times in Couplet.

    python experiments/performance/operations.py [DEVICE]

Needs torch, and a GPU: DEVICE is cuda by default.
"""
import sys
import time

import torch
import torch.nn.functional as F

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cuda"
BATCH, WARM_UP, ROUNDS = 256, 3, 20
TOWERS = [("image", 50, 768, 12), ("text", 77, 512, 8)]
torch.backends.cuda.matmul.allow_tf32 = True


def timed(name, operation):
    for _ in range(WARM_UP):
        operation()
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(ROUNDS):
        operation()
    torch.cuda.synchronize()
    print(f"| {name} | {(time.perf_counter() - start) * 1e3 / ROUNDS:.4f} |", flush=True)


def random(*shape, dtype=torch.float32, grad=False):
    return (torch.rand(shape, device=DEVICE) * 2 - 1).to(dtype).requires_grad_(grad)


def bf16(*shape, grad=False):
    return random(*shape, dtype=torch.bfloat16, grad=grad)


def both(operation):
    def run():
        out = operation()
        out.backward(torch.ones_like(out))
    return run


def attention(qkv, heads):
    b, t, w = qkv.shape
    q, k, v = qkv.view(b, t, 3, heads, w // 3 // heads).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, w // 3)


print("| operation | ms |\n|---|---|")
a, b = bf16(8192, 8192), bf16(8192, 8192)
timed("product 8192", lambda: a @ b)
a, b = random(4096, 4096), random(4096, 4096)
timed("product 4096 f32", lambda: a @ b)
for tower, tokens, width, _ in TOWERS:
    for inputs, outputs in [(width, width), (width, 3 * width), (width, 4 * width), (4 * width, width)]:
        weight, x = bf16(outputs, inputs), bf16(BATCH, tokens, inputs)
        gradient = bf16(BATCH * tokens, outputs)
        flat = x.reshape(-1, inputs)
        timed(f"{tower} {inputs} to {outputs}, [b, t, in]", lambda: F.linear(x, weight))
        timed(f"{tower} {inputs} to {outputs}, weight gradient", lambda: gradient.T @ flat)
for tower, tokens, width, _ in TOWERS:
    rows, columns = BATCH * tokens, 4 * width
    x, y = bf16(rows, columns), random(rows, width)
    timed(f"{tower} sum of {rows} rows of {columns}", lambda: x.sum(0))
    timed(f"{tower} sum of {rows} rows of {width} f32", lambda: y.sum(0))
x = random(768 * 3072)
timed("sum of 2.4 M values", lambda: x.sum())
x = random(1 << 28)
timed("copy of 1 GiB", lambda: x * 2.0)
for tower, tokens, width, heads in TOWERS:
    x, gain, bias = random(BATCH, tokens, width, grad=True), random(width, grad=True), random(width, grad=True)
    norm = lambda: F.layer_norm(x, (width,), gain, bias)
    with torch.no_grad():
        timed(f"{tower} layer norm", norm)
    timed(f"{tower} layer norm, both passes", both(norm))
    wide = bf16(BATCH, tokens, 4 * width, grad=True)
    gelu = lambda: F.gelu(wide)
    with torch.no_grad():
        timed(f"{tower} GELU", gelu)
    timed(f"{tower} GELU, both passes", both(gelu))
    scores = random(BATCH, heads, tokens, tokens, grad=True)
    softmax = lambda: scores.softmax(3)
    with torch.no_grad():
        timed(f"{tower} softmax", softmax)
    timed(f"{tower} softmax, both passes", both(softmax))
    packed = bf16(BATCH, tokens, 3 * width, grad=True)
    with torch.no_grad():
        timed(f"{tower} attention", lambda: attention(packed, heads))
    timed(f"{tower} attention, both passes", both(lambda: attention(packed, heads)))
    y = random(BATCH, tokens, width)
    with torch.no_grad():
        timed(f"{tower} cast to bf16", lambda: x.to(torch.bfloat16))
        timed(f"{tower} residual sum", lambda: x + y)
table = random(49408, 512, grad=True)
ids = (torch.arange(BATCH * 77, device=DEVICE) * 7919 % 49408).view(BATCH, 77)
timed("embedding, both passes", both(lambda: F.embedding(ids, table)))
