"""Compares Couplet's fine-tuning with a classification head with PyTorch's, from the same weights.

    cargo build --release
    target/release/couplet train configs/shapes.toml --run-dir RUN --set schedule.length="250 steps"
    python experiments/fine_tuning/compare.py RUN

Needs open_clip_torch==3.3.0, torch and safetensors. The training split is one batch, so both see the
same images in each of STEPS steps. Images have the size of the model's input. The head starts from the
text features of the classes (Wortsman et al. 2022). Both use AdamW.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

COUPLET = pathlib.Path(__file__).parents[2] / "target/release/couplet"
TEMPLATES = ["a {}", "a photo of a {}.", "a picture of a {}"]
IMAGES, STEPS, LR, DECAY, BETAS, EPS = 1024, 12, 2e-4, 0.1, (0.9, 0.98), 1e-6
CONFIG = """
name = "fine-tuned"
[model]
preset = "ViT-Ti-16-64"
weights = "{run}"
[classify]
dataset = "{dataset}"
head = "{head}"
[batch]
global = {images}
micro = {micro}
[loss]
kind = "softmax"
label_smoothing = {smoothing}
[optimizer]
kind = "adamw"
lr = {lr}
betas = [0.9, 0.98]
eps = 1e-6
weight_decay = {decay}
clip_norm = 1.0
[schedule]
kind = "constant"
length = "{steps} steps"
[log]
every = "1 step"
"""


def couplet(*arguments):
    run = subprocess.run([str(COUPLET), *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)


def images_of(folder, preprocess):
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    paths = [(path, at) for at, one in enumerate(classes) for path in sorted(one.iterdir())]
    images = [preprocess(Image.open(path).convert("RGB")) for path, _ in paths]
    return torch.stack(images), torch.tensor([label for _, label in paths]), [c.name for c in classes]


def of_torch(checkpoint, train, test, smoothing, zero_shot):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{checkpoint}")
    images, labels, names = images_of(train, preprocess)
    test_images, truth, _ = images_of(test, preprocess)
    model.eval()
    with torch.no_grad():
        texts = [template.replace("{}", name) for name in names for template in TEMPLATES]
        features = model.encode_text(tokenizer(texts), normalize=True)
        features = F.normalize(features.reshape(len(names), len(TEMPLATES), -1).mean(1), dim=-1)
        start = features * model.logit_scale.exp() if zero_shot else torch.zeros_like(features)
    head = torch.nn.Linear(features.shape[1], len(names))
    with torch.no_grad():
        head.weight.copy_(start)
        head.bias.zero_()
    named = [("visual." + n, p) for n, p in model.visual.named_parameters()] + [
        ("head." + n, p) for n, p in head.named_parameters()
    ]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
            {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": DECAY},
        ],
        lr=LR, betas=BETAS, eps=EPS,
    )
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = head(model.encode_image(images, normalize=True))
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        found = head(model.encode_image(test_images, normalize=True)).argmax(1)
    return losses, (found == truth).float().mean().item(), head


def of_couplet(run, folder, images, micro, smoothing, zero_shot):
    config, out = folder / "config.toml", folder / "out"
    config.write_text(CONFIG.format(
        run=run, dataset=folder / "set.toml", images=images, micro=micro, smoothing=smoothing,
        head="zero-shot" if zero_shot else "zeros", lr=LR, decay=DECAY, steps=STEPS,
    ))
    couplet("train", config, "--run-dir", out, "--overwrite")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    top1 = [line["eval/set/top1"] for line in lines if "eval/set/top1" in line][-1]
    checkpoint = out / "checkpoints" / (out / "latest").read_text().strip()
    return losses, top1, load_file(checkpoint / "head.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    run = parser.parse_args().run.resolve()
    pointer = next(run / name for name in ("best", "latest") if (run / name).is_file())
    checkpoint = run / "checkpoints" / pointer.read_text().strip()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for part, seed in (("train", 5), ("test", 6)):
            couplet("data", "shapes", folder / part, "--format", "class-folder", "--samples", IMAGES,
                    "--image-size", 64, "--seed", seed)
        (folder / "set.toml").write_text(
            f'name = "set"\nsource = "class-folder"\npath = "{folder}/test"\n'
            f'train_path = "{folder}/train"\ntemplates = {json.dumps(TEMPLATES)}\n'
        )
        print("| head | smoothing | micro | loss, step 1 | step 12 | largest gap of losses | top-1 | gap of the head |")
        print("|---|---|---|---|---|---|---|---|")
        for zero_shot, smoothing, micro in ((True, 0.0, IMAGES), (True, 0.1, 256), (False, 0.0, IMAGES)):
            ours = of_couplet(run, folder, IMAGES, micro, smoothing, zero_shot)
            theirs = of_torch(checkpoint, folder / "train", folder / "test", smoothing, zero_shot)
            gap = max(abs(a - b) / b for a, b in zip(ours[0], theirs[0], strict=True))
            weight, reference = ours[2]["weight"], theirs[2].weight.detach()
            head = ((weight - reference).norm() / reference.norm()).item()
            print(f"| {'zero-shot' if zero_shot else 'zeros'} | {smoothing} | {micro} | {ours[0][0]:.5f} | "
                  f"{ours[0][-1]:.5f} | {gap:.1e} | {ours[1]:.4f} and {theirs[1]:.4f} | {head:.1e} |")


main()
