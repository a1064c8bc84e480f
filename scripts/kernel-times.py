"""What a training step of Couplet does on an NVIDIA GPU, from the file that kernel-times.c wrote.

    python3 scripts/kernel-times.py times.txt

Prints the last whole step: its duration, how long the GPU worked, and the time and number of each kind of kernel.
"""
import collections
import re
import sys

KINDS = [
    ("products", r"nvjet|cutlass|splitK|gemv|gemm|xmma|matmul"),
    ("softmax", r"^(forward_s|backward_w)_"),
    ("heads apart and together", r"^move_heads"),
    ("layer norms", r"^(forward|backward)_x_|^scaled_columns"),
    ("GELU", r"^(forward|backward)_f_"),
    ("batch norms", r"^(sums_x|normalize|gradient_)"),
    ("patches of convolutions", r"^(gather|scatter|exchange)"),
    ("sums of columns", r"^columns"),
    ("residual sums, sums of gradients", r"^sum_x|^kept|kernel_binop"),
    ("gradient norm and update", r"^(update|squares|total|limit)"),
    ("casts", r"cast_element|^narrow"),
    ("copies and fills", r"memcpy|memset|copy_kernel|slice|full_kernel|select"),
]


def read(path):
    rows = []
    for line in open(path, errors="replace"):
        part = line.split(" ", 4)
        if len(part) == 5:
            rows.append((int(part[0]), int(part[1]), part[4].strip()))
    return sorted(rows)


def main():
    rows = read(sys.argv[1])
    updates = [at for at, row in enumerate(rows) if row[2].startswith("update_")]
    # A step's updates follow one another.
    ends = [at for at, later in zip(updates, updates[1:] + [len(rows)]) if later - at > 200]
    if len(ends) < 3:
        sys.exit("not three steps")
    step = rows[ends[-3] + 1 : ends[-2] + 1]
    worked, until = 0, 0
    for begin, end, _ in step:
        worked += max(0, end - max(begin, until))
        until = max(until, end)
    took = rows[ends[-2]][1] - rows[ends[-3]][1]
    print(f"a step took {took / 1e6:.2f} ms, in which the GPU worked {worked / 1e6:.2f} ms")
    sums = collections.defaultdict(lambda: [0, 0])
    for begin, end, name in step:
        kind = next((kind for kind, pattern in KINDS if re.search(pattern, name)), "others")
        sums[kind][0] += end - begin
        sums[kind][1] += 1
    for kind, (time, count) in sorted(sums.items(), key=lambda item: -item[1][0]):
        print(f"{time / 1e6:9.2f} ms {count:6} {kind}")


if __name__ == "__main__":
    main()
