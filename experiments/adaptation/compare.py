"""Fine-tunes by low-rank updates beside PEFT.

    python compare.py COUPLET parity        20 steps from the same adapter: losses, updates, merged weights
    python compare.py COUPLET speed         steps and memory of ViT-B-32, alternating, on the same cores

(needs peft==0.21.2, transformers==5.24.0, open_clip_torch==3.3.0, torch, safetensors, pillow)
"""
import csv
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

CLIP = [[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]]
ADAMW = dict(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
# What a caption of shapes is padded to.
TOKENS = 9
STEPS = 6


def features(found):
    from torch.nn.functional import normalize
    import torch

    return normalize(found if isinstance(found, torch.Tensor) else found.pooler_output, dim=-1)


def loss_of(model, scale, images, texts):
    import torch
    from torch.nn.functional import cross_entropy

    image, text = features(model.get_image_features(pixel_values=images)), features(model.get_text_features(input_ids=texts))
    logits, labels = scale.exp() * image @ text.T, torch.arange(len(images))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def config(model, adapt, data, steps):
    return (
        f'name = "r"\n[model]\n{model}\n{adapt}{data}[optimizer]\nkind = "adamw"\nlr = 1e-3\n'
        f'[schedule]\nkind = "constant"\nlength = "{steps} steps"\n[log]\nevery = "1 step"\n'
    )


def train(couplet, folder, text):
    pathlib.Path(folder, "r.toml").write_text(text)
    subprocess.run([couplet, "train", "r.toml", "--run-dir", "run"], cwd=folder, check=True, capture_output=True)
    lines = pathlib.Path(folder, "run/metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line]


def parity(couplet):
    import numpy as np
    import torch
    from open_clip.tokenizer import SimpleTokenizer
    from peft import LoraConfig, PeftModel, get_peft_model
    from PIL import Image
    from safetensors.torch import load_file
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    text = dict(
        hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, eos_token_id=49407,
        bos_token_id=49406, pad_token_id=49407,
    )
    vision = dict(
        hidden_size=40, intermediate_size=96, num_hidden_layers=3, num_attention_heads=5, image_size=40, patch_size=8,
    )
    words = "red green blue cat dog tree house car boat sun moon".split()
    print("| rank, alpha | layers | loss after 20 steps | largest gap of losses | of updates | of merged weights |")
    print("|---|---|---|---|---|---|")
    for seed, (rank, alpha, modules) in enumerate([
        (5, 7, ["q_proj", "v_proj", "fc2"]),
        (8, 8, ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]),
        (2, 16, ["k_proj"]),
    ]):
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            base, start, end = (folder + "/" + name for name in ["base", "start", "end"])
            model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
            model.save_pretrained(base)
            size = dict(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40})
            CLIPImageProcessor(**size).save_pretrained(base)
            adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules))
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.05)
            adapted.save_pretrained(start)
            rng = np.random.default_rng(seed)
            rows = []
            with open(folder + "/t.csv", "w") as file:
                writer = csv.writer(file)
                writer.writerow(["filepath", "title"])
                for at in range(12):
                    pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(f"{folder}/{at}.png")
                    caption = f"a photo of a {' '.join(rng.choice(words, 3))} {at}"
                    rows.append((pixels, caption))
                    writer.writerow([f"{at}.png", caption])
            images = torch.stack([torch.from_numpy(pixels) for pixels, _ in rows]).float() / 255
            images = ((images - torch.tensor(CLIP[0])) / torch.tensor(CLIP[1])).permute(0, 3, 1, 2)
            texts = SimpleTokenizer()([caption for _, caption in rows])
            model = PeftModel.from_pretrained(CLIPModel.from_pretrained(base), start, is_trainable=True)
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **ADAMW)
            theirs = []
            for _ in range(20):
                loss = loss_of(model, model.base_model.model.logit_scale, images, texts)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                theirs.append(loss.item())
            model.save_pretrained(end)
            ours = train(couplet, folder, config(
                'weights = "base"', '[adapt]\nkind = "lora"\nweights = "start"\n',
                '[data.train]\nsource = "csv"\npath = "t.csv"\n[batch]\nglobal = 12\n', 20,
            ))
            checkpoint = folder + "/run/checkpoints/step-00000020"
            [own, other] = (
                load_file(path + "/adapter_model.safetensors") for path in [checkpoint + "/adapter", end]
            )
            assert own.keys() == other.keys()
            updates = max(((own[key] - other[key]).norm() / other[key].norm()).item() for key in other)
            out = folder + "/merged"
            subprocess.run(
                [couplet, "model", "convert", checkpoint, out, "--format", "hf"], check=True, capture_output=True,
            )
            model.merge_and_unload().save_pretrained(folder + "/theirs")
            [own, other] = (load_file(path + "/model.safetensors") for path in [out, folder + "/theirs"])
            merged = max(((own[key] - other[key]).norm() / other[key].norm()).item() for key in other)
            losses = max(abs(line["loss"] / their - 1) for line, their in zip(ours, theirs))
            names = ", ".join(modules)
            print(f"| {rank}, {alpha} | {names} | {theirs[-1]:.5f} | {losses:.1e} | {updates:.1e} | {merged:.1e} |")


def reference(kind):
    """Steps of PEFT's or of the whole model, in a process of its own for its memory."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import CLIPConfig, CLIPModel

    text = dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8, eos_token_id=49407)
    vision = dict(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
        patch_size=32,
    )
    model = base = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))
    if kind == "updates":
        modules = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
        model = get_peft_model(base, LoraConfig(r=8, lora_alpha=8, target_modules=modules))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **ADAMW)
    images, texts = torch.randn(32, 3, 224, 224), torch.randint(1, 40000, (32, TOKENS))
    texts[:, -1] = 49407
    seconds = []
    for _ in range(STEPS):
        begun = time.time()
        loss = loss_of(model, base.logit_scale, images, texts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.time() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([32 / statistics.median(seconds[1:]), peak]))


def ours(couplet, kind):
    adapt = '[adapt]\nkind = "lora"\n' if kind == "updates" else ""
    data = '[data.train]\nsource = "shapes"\nsamples = 320\n[batch]\nglobal = 32\n[checkpoint]\nevery = "100 steps"\n'
    text = config('preset = "ViT-B-32"', adapt, data, STEPS)
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "r.toml").write_text(text)
        code = (
            "import json,resource,subprocess,sys\n"
            "subprocess.run(sys.argv[1:], check=True, capture_output=True)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
        )
        command = [couplet, "train", "r.toml", "--run-dir", "run"]
        peak = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=folder, check=True, capture_output=True, text=True,
        ).stdout
        lines = map(json.loads, pathlib.Path(folder, "run/metrics.jsonl").read_text().splitlines())
        speeds = [line["samples_per_second"] for line in lines if "samples_per_second" in line]
    return statistics.median(speeds[1:]), float(peak)


def speed(couplet):
    print("| trained | Couplet, samples/s | PyTorch, samples/s | ratio | Couplet, MiB | PyTorch, MiB |")
    print("|---|---|---|---|---|---|")
    for _ in range(2):
        for kind in ["updates", "all"]:
            own = ours(couplet, kind)
            command = [sys.executable, __file__, couplet, "reference", kind]
            other = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            numbers = f"{own[0]:.2f} | {other[0]:.2f} | {own[0] / other[0]:.2f} | {own[1]:.0f} | {other[1]:.0f}"
            print(f"| {kind} | {numbers} |")


if __name__ == "__main__":
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    if sys.argv[2] == "reference":
        reference(sys.argv[3])
    else:
        {"parity": parity, "speed": speed}[sys.argv[2]](binary)
