"""Draws shapes.png, the picture of the README: what a run of configs/shapes.toml learns.

    couplet train configs/shapes.toml
    couplet data shapes IMAGES --format class-folder --samples 64 --seed 7 --image-size 96
    python docs/images/make_shapes.py runs/shapes IMAGES couplet      (needs matplotlib, pillow)
"""
import json
import pathlib
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

run, images, couplet = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
lines = [json.loads(line) for line in open(run / "metrics.jsonl")]
loss = [(line["step"], line["loss"]) for line in lines if "loss" in line]
accuracy = {
    name: [(line["step"], 100 * line[key]) for line in lines if key in line]
    for name, key in [("8 shapes", "eval/shapes/top1"), ("64 colored shapes", "eval/shapes-held-out/top1")]
}

folders = sorted(folder for folder in images.iterdir() if folder.is_dir())
labels = ",".join(folder.name.replace("_", " ") for folder in folders)
picked = [sorted(folder.iterdir())[0] for folder in folders][::max(1, len(folders) // 8)][:8]

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
figure = plt.figure(figsize=(10, 3.3), dpi=100)
grid = figure.add_gridspec(2, 9, left=0.055, right=0.985, top=0.83, bottom=0.14, wspace=0.15, hspace=0.35)

curve = figure.add_subplot(grid[:, :4])
curve.plot(*zip(*loss), color="#9aa5b1", linewidth=1)
curve.set_xlabel("step")
curve.set_ylabel("loss", color="#697684")
curve.set_ylim(bottom=0)
percent = curve.twinx()
for (name, points), color in zip(accuracy.items(), ["#1769aa", "#c2571a"]):
    percent.plot(*zip(*points), color=color, marker="o", markersize=3)
    percent.text(0.98, 0.6 if name[0] == "8" else 0.5, f"{name}: {points[-1][1]:.1f}%", color=color,
                 transform=percent.transAxes, ha="right")
percent.set_ylim(0, 102)
percent.set_ylabel("zero-shot top-1, %")
curve.set_title("configs/shapes.toml, while it trains", loc="left", fontsize=10, pad=12)

for at, image in enumerate(picked):
    command = [couplet, "classify", "--model", str(run), "--labels", labels, "--template", "a photo of a {}.", "--top", "1"]
    printed = subprocess.run(command + [str(image)], capture_output=True, text=True, check=True).stdout
    share, label = printed.splitlines()[1].split("%")
    axes = figure.add_subplot(grid[at // 4, 5 + at % 4])
    axes.imshow(Image.open(image).convert("RGB"))
    axes.set_axis_off()
    axes.set_title(f"{label.strip()}\n{float(share):.0f}%", fontsize=8, pad=3)
figure.text(0.545, 0.945, "eight new images, and the best of all labels", fontsize=10)
figure.savefig(pathlib.Path(__file__).parent / "shapes.png")
