"""Compares `couplet embed` and `couplet classify` with open_clip and ONNX Runtime on the CPU, alternating.

    cargo build --release
    python experiments/performance/inference.py [ROUNDS [MODEL]] [--binary COUPLET]

A model of random weights encodes the same JPEGs (480x360 noise over gradients) and captions, in batches of 32 images and
256 texts. Every side reads, decodes and transforms the files itself; open_clip by its own transform, in this process
and in worker processes, of which the faster one counts; ONNX Runtime in this process. What one run takes longer for many inputs
than for few is counted, which leaves out the start. "cold" is one image with two labels, from the start of the
process to its end. The cosines are with open_clip's features of the same precision. Needs
open_clip_torch==3.3.0, torch, onnx and onnxruntime, but no network.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

COUPLET = pathlib.Path(__file__).parents[2] / "target/release/couplet"
FEW, MANY, FEW_TEXTS, MANY_TEXTS = 32, 256, 256, 2304
BATCH, TEXT_BATCH = 32, 256
WORDS = "a an the photo picture of dog cat red house by sea two people on old street with blue car in winter light".split()
# Encodes the first inputs and saves their features.
SIDE = """
import sys, pathlib, torch, open_clip
from PIL import Image
kind, precision, workers, what, folder, count = sys.argv[1:7]
count, workers, folder = int(count), int(workers), pathlib.Path(folder)
model, _, transform = open_clip.create_model_and_transforms("ARCH", pretrained=str(folder / "model/open_clip_model.safetensors"))
model.eval()
class Files(torch.utils.data.Dataset):
    def __init__(self): self.files = sorted((folder / "images").glob("*.jpg"))[:count]
    def __len__(self): return len(self.files)
    def __getitem__(self, at): return transform(Image.open(self.files[at]))
cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
with torch.inference_mode(), cast:
    if what == "texts":
        tokenize = open_clip.get_tokenizer("ARCH")
        texts = (folder / "texts.txt").read_text().splitlines()[:count]
        out = [model.encode_text(tokenize(texts[at:at + 256])) for at in range(0, count, 256)]
    else:
        encode = model.encode_image
        if kind == "onnx":
            import onnxruntime
            session = onnxruntime.InferenceSession(str(folder / "image.onnx"), providers=["CPUExecutionProvider"])
            encode = lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])
        out = [encode(pixels) for pixels in torch.utils.data.DataLoader(Files(), 32, num_workers=workers)]
    torch.save(torch.nn.functional.normalize(torch.cat(out).float(), dim=-1), folder / "theirs.pt")
"""
COLD = """
import sys, torch, open_clip
from PIL import Image
folder = sys.argv[1]
model, _, transform = open_clip.create_model_and_transforms("ARCH", pretrained=folder + "/model/open_clip_model.safetensors")
model.eval()
with torch.inference_mode():
    image = model.encode_image(transform(Image.open(folder + "/images/0000.jpg"))[None], normalize=True)
    text = model.encode_text(open_clip.get_tokenizer("ARCH")(["a dog", "a cat"]), normalize=True)
    print((model.logit_scale.exp() * image @ text.T).softmax(-1))
"""


def prepare(folder, arch):
    import random

    import numpy as np
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(arch).eval()
    (folder / "model").mkdir()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model/open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config(arch), "preprocess_cfg": {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}}
    (folder / "model/open_clip_config.json").write_text(json.dumps(config))
    torch.backends.mha.set_fastpath_enabled(False)
    torch.onnx.export(model.visual, torch.zeros(2, 3, *model.visual.image_size), str(folder / "image.onnx"), dynamo=False,
                      input_names=["pixels"], output_names=["features"], dynamic_axes={"pixels": {0: "batch"}})
    rng, words = np.random.default_rng(0), random.Random(0)
    (folder / "images").mkdir()
    (folder / "few").mkdir()
    for at in range(MANY):
        slope = np.linspace(0, rng.uniform(50, 200), 480)[None, :, None] * rng.uniform(0, 1, 3)
        pixels = (slope + rng.uniform(0, 40, (360, 480, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{at:04}.jpg", quality=85)
        if at < FEW:
            os.link(folder / f"images/{at:04}.jpg", folder / f"few/{at:04}.jpg")
    lines = [" ".join(words.choices(WORDS, k=words.randint(5, 14))) for _ in range(MANY_TEXTS)]
    (folder / "texts.txt").write_text("\n".join(lines) + "\n")
    (folder / "few.txt").write_text("\n".join(lines[:FEW_TEXTS]) + "\n")


def timed(command):
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return time.perf_counter() - start


def ours(binary, folder, what, precision):
    def seconds(where):
        return timed([binary, "embed", "--model", folder / "model", f"--{what}", where, "--out", folder / "ours.safetensors",
                      "--precision", precision, "--device", "cpu"])

    if what == "images":
        return (MANY - FEW) / (-seconds(folder / "few") + seconds(folder / "images"))
    return (MANY_TEXTS - FEW_TEXTS) / (-seconds(folder / "few.txt") + seconds(folder / "texts.txt"))


def theirs(folder, arch, kind, what, precision):
    few, many = (FEW, MANY) if what == "images" else (FEW_TEXTS, MANY_TEXTS)

    def speed(workers):
        def seconds(count):
            return timed([sys.executable, "-c", SIDE.replace("ARCH", arch), kind, precision, workers, what, folder, count])

        return (many - few) / (-seconds(few) + seconds(many))

    return max(speed(0), speed(os.cpu_count())) if what == "images" else speed(0)


def agreement(folder, what):
    """The least cosine of a feature with the other side's."""
    import torch
    from safetensors.torch import load_file

    features = load_file(folder / "ours.safetensors")["image_features" if what == "images" else "text_features"]
    return float((features * torch.load(folder / "theirs.pt")).sum(-1).min())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("model", nargs="?", default="ViT-B-32")
    parser.add_argument("--binary", default=COUPLET)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        prepare(folder, options.model)
        table = {}
        for _ in range(options.rounds):
            for what in ["images", "texts"]:
                for precision in ["fp32", "bf16"]:
                    row = table.setdefault(f"{what}/s, {precision}", {})
                    row.setdefault("couplet", []).append(ours(options.binary, folder, what, precision))
                    row.setdefault("open_clip", []).append(theirs(folder, options.model, "torch", what, precision))
                    row["least cosine"] = [agreement(folder, what)]
                    if what == "images" and precision == "fp32":
                        row.setdefault("ONNX Runtime", []).append(theirs(folder, options.model, "onnx", what, precision))
            row = table.setdefault("cold, s", {})
            row.setdefault("couplet", []).append(timed([options.binary, "classify", "--model", folder / "model", "--labels", "a dog,a cat",
                                                        folder / "images/0000.jpg", "--device", "cpu"]))
            row.setdefault("open_clip", []).append(timed([sys.executable, "-c", COLD.replace("ARCH", options.model), folder]))
        print("| | couplet | open_clip | ratio | ONNX Runtime | least cosine |\n|---|---|---|---|---|---|")
        for name, row in table.items():
            middle = {side: statistics.median(values) for side, values in row.items()}
            ratio = middle["couplet"] / middle["open_clip"]
            cell = lambda side, digits: f"{middle[side]:.{digits}f}" if side in middle else ""
            digits = 2 if name.startswith("cold") else 1
            print(f"| {name} | {cell('couplet', digits)} | {cell('open_clip', digits)} | {1 / ratio if digits == 2 else ratio:.2f} "
                  f"| {cell('ONNX Runtime', 1)} | {cell('least cosine', 6)} |")


if __name__ == "__main__":
    main()
