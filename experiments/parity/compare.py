"""Compares full-size models with open_clip_torch 3.3.0, with random weights and a batch of 2: features,
logits, loss, every gradient, and parameters and buffers after 3 AdamW steps.

Run in the repository's root:
    python experiments/parity/compare.py [NAME …]   (needs open_clip_torch==3.3.0, torch)

Each model needs up to 12 GB of memory, twice that on disk in a temporary folder, and minutes on two
cores. Without names, the nine models of the paper are compared. SigLIP's need timm, too.
"""
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import open_clip
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from safetensors.torch import load_file, save_file

PAPER = [
    "RN50-quickgelu", "RN101-quickgelu", "RN50x4-quickgelu", "RN50x16-quickgelu", "RN50x64-quickgelu",
    "ViT-B-32-quickgelu", "ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu",
]
BATCH = 2
COLUMNS = ["image features", "text features", "logits", "loss", "gradients", "after 3 steps",
           "gradients in f64", "open_clip's own, f32 from f64"]


def save(tensors, path):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)


def make(name, folder):
    """Writes the model as an open_clip folder, the batch, and open_clip's results."""
    torch.manual_seed(0)
    config = open_clip.get_model_config(name)
    model = open_clip.create_model(name)
    with torch.no_grad():
        for parameter in model.parameters():
            # Zeros and ones would hide mistakes. A scale that depends on the width keeps activations small.
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.add_(0.1 / math.sqrt(fan_in) * torch.randn_like(parameter))
        for key, parameter in model.named_parameters():
            if key.endswith("bn3.weight"):
                parameter.add_(0.2)
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn_like(buffer))
            if key.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand_like(buffer))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save(model.state_dict(), folder / "open_clip_model.safetensors")

    size = config["vision_cfg"]["image_size"]
    images = torch.randn(BATCH, 3, size, size)
    if config["text_cfg"].get("hf_tokenizer_name"):
        # The tower takes any ids; its tokenizer would have to be downloaded.
        texts = torch.randint(2, config["text_cfg"]["vocab_size"], (BATCH, config["text_cfg"]["context_length"]))
        texts[0, 9:] = 1
    else:
        texts = open_clip.tokenize(["a photo of a cat", "two dogs play in the snow, one of them barks"])
    out = {"images": images, "texts": texts.float()}
    model.eval()
    with torch.no_grad():
        out["image_features"] = model.encode_image(images)
        out["text_features"] = model.encode_text(texts)
        out["logits_per_image"] = model.get_logits(images, texts)[0]
    model.train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.2},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-3, betas=(0.9, 0.98), eps=1e-6,
    )
    loss_of = ClipLoss() if model.logit_bias is None else SigLipLoss()
    for step in range(3):
        loss = loss_of(*model(images, texts))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            out["loss"] = loss.detach().reshape(1)
            save({key: p.grad for key, p in model.named_parameters()}, folder / "grads.safetensors")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if step == 0:
            out["grad_norm"] = norm.reshape(1)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
    save(out, folder / "batch.safetensors")
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    save(state, folder / "after.safetensors")


def own_distance(name, folder):
    """The largest distance between open_clip's f32 and f64 gradients. Rounding that flips the sign of a
    ReLU's input changes the gradients of a ResNet. Saves the f64 gradients, which Couplet's f64 gradients
    are compared with."""
    if not name.startswith("RN"):
        return "-"
    batch = load_file(folder / "batch.safetensors")
    grads = load_file(folder / "grads.safetensors")
    model = open_clip.create_model(name)
    model.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    model = model.double().train()
    ClipLoss()(*model(batch["images"].double(), batch["texts"].long())).backward()
    norms = {key: p.grad.norm().item() for key, p in model.named_parameters()}
    total = math.sqrt(sum(norm**2 for norm in norms.values()))
    gaps = [
        (grads[key].double() - p.grad).norm().item() / (total if norms[key] < 1e-6 * total else norms[key])
        for key, p in model.named_parameters()
    ]
    save({key: p.grad.float() for key, p in model.named_parameters()}, folder / "grads64.safetensors")
    return f"{max(gaps):.1e}"


def compare(folder):
    """The distances that Couplet's test writes."""
    command = ["cargo", "test", "--release", "--workspace", "--lib", "--", "--ignored", "a_full_size_model_matches_open_clip"]
    done = subprocess.run(command, env=dict(os.environ, COUPLET_PARITY=str(folder)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return (folder / "gaps.txt").read_text().split()


if len(sys.argv) > 2 and sys.argv[1] == "--make":
    make(sys.argv[2], pathlib.Path(sys.argv[3]))
    print(own_distance(sys.argv[2], pathlib.Path(sys.argv[3])))
    sys.exit()
print("| model | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS), flush=True)
for name in sys.argv[1:] or PAPER:
    with tempfile.TemporaryDirectory() as folder:
        # A separate process frees its memory before Couplet runs.
        made = subprocess.run(
            [sys.executable, __file__, "--make", name, folder], check=True, stdout=subprocess.PIPE, text=True,
        )
        columns = compare(pathlib.Path(folder))
        columns += ["-"] * (len(COLUMNS) - 1 - len(columns)) + [made.stdout.split()[-1]]
        print(f"| {name} | " + " | ".join(columns) + " |", flush=True)
