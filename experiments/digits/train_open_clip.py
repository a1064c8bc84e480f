"""Trains open_clip_torch's CLIP on the digits of make_digits.py with the settings of configs/digits.toml.

    python experiments/digits/train_open_clip.py data/digits SEED

Needs open_clip_torch 3.3.0, torch, torchvision and pillow.
"""
import csv
import math
import pathlib
import sys
import time

import torch
from open_clip import get_tokenizer
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from torchvision import transforms as T

root, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
EPOCHS, BATCH, LR, WARMUP, DECAY, CLIP_NORM = 30, 64, 5e-4, 50, 0.1, 1.0
torch.manual_seed(seed)

norm = T.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
bicubic = T.InterpolationMode.BICUBIC
augment = T.Compose([T.RandomResizedCrop(32, scale=(0.9, 1.0), interpolation=bicubic), T.ToTensor(), norm])
plain = T.Compose([T.Resize(32, interpolation=bicubic), T.CenterCrop(32), T.ToTensor(), norm])
encode = get_tokenizer("ViT-B-32")
tokenize = lambda texts: encode(texts, context_length=32)

with open(root / "train.csv") as file:
    rows = list(csv.DictReader(file))
images = [Image.open(root / row["filepath"]).convert("RGB") for row in rows]
texts = tokenize([row["title"] for row in rows])

model = CLIP(
    embed_dim=64,
    vision_cfg=CLIPVisionCfg(layers=4, width=96, head_width=24, patch_size=8, image_size=32),
    text_cfg=CLIPTextCfg(context_length=32, vocab_size=49408, width=64, heads=4, layers=2),
)
groups = [
    {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": DECAY},
    {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), eps=1e-6)
per_epoch = len(rows) // BATCH
total, step, start = per_epoch * EPOCHS, 0, time.time()
for epoch in range(EPOCHS):
    order = torch.randperm(len(rows)).tolist()
    for at in range(per_epoch):
        batch = order[at * BATCH : (at + 1) * BATCH]
        done = (step - WARMUP) / (total - WARMUP)
        rate = LR * (step + 1) / WARMUP if step < WARMUP else 0.5 * LR * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = ClipLoss()(*model(torch.stack([augment(images[i]) for i in batch]), texts[batch]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        step += 1

names = (root / "test/classnames.txt").read_text().split("\n")[:-1]
templates = (root / "test/templates.txt").read_text().split("\n")[:-1]
model.eval()
right = count = 0
with torch.no_grad():
    classes = []
    for name in names:
        features = model.encode_text(tokenize([t.format(name) for t in templates]), normalize=True)
        classes.append(torch.nn.functional.normalize(features.mean(0), dim=-1))
    classes = torch.stack(classes)
    for label, folder in enumerate(sorted((root / "test").glob("*/"))):
        pixels = torch.stack([plain(Image.open(f).convert("RGB")) for f in sorted(folder.glob("*.png"))])
        guess = (model.encode_image(pixels, normalize=True) @ classes.T).argmax(1)
        right += (guess == label).sum().item()
        count += len(pixels)
print(f"seed {seed}: top1 {right / count:.4f} of {count}, last loss {loss.item():.4f}, {time.time() - start:.0f} s")
