"""Compares Couplet's evaluations with CLIP_benchmark's and scikit-learn's on the same files.

    cargo build --release
    target/release/couplet train configs/shapes.toml --run-dir RUN --set schedule.length="250 steps"
    python experiments/evaluation/compare.py RUN [--images N]

Needs open_clip_torch==3.3.0, torch, torchvision, scikit-learn, webdataset, safetensors and clip_benchmark==1.6.2
(`pip install --no-deps clip_benchmark`). CLIP_benchmark's own writer writes the datasets; open_clip reads the model.
"""
import argparse
import importlib.util
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import types
import warnings

import numpy as np
import torch
from PIL import Image

# CLIP_benchmark imports the packages of all its datasets.
installed = pathlib.Path(importlib.util.find_spec("clip_benchmark").submodule_search_locations[0])
for name in ("clip_benchmark", "clip_benchmark.metrics", "clip_benchmark.datasets"):
    module = types.ModuleType(name)
    folder = installed.joinpath(*name.split(".")[1:])
    module.__path__ = [str(folder)]
    sys.modules[name] = module
sys.modules["clip_benchmark.datasets.builder"] = types.SimpleNamespace(build_dataset=None)
import open_clip  # noqa: E402
from clip_benchmark import webdataset_builder as writer  # noqa: E402
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval  # noqa: E402



def accuracy(output, target, topk=(1,)):
    """CLIP_benchmark's function, whose last line NumPy 2.4 rejects."""
    pred = output.topk(max(topk), 1, True, True)[1].t()
    correct = pred.eq(target.view(1, -1).expand_as(pred))
    return [correct[:k].float().sum().item() / len(target) for k in topk]


zeroshot_classification.accuracy = accuracy
COUPLET = pathlib.Path(__file__).parents[2] / "target/release/couplet"
TEMPLATES = ["a {c}", "a photo of a {c}.", "a picture of a {c}"]


def couplet(*arguments):
    run = subprocess.run([str(COUPLET), *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return run.stdout


def evaluate(folder, *arguments):
    out = folder / "report.json"
    couplet("eval", *arguments, "--no-cache", "--json", out)
    return json.loads(out.read_text())[0]


def pictures(folder, count, seed):
    """Shapes in one folder per class: a list of (path, class), and the class names."""
    couplet("data", "shapes", folder, "--format", "class-folder", "--samples", count, "--seed", seed, "--image-size", 72)
    classes = sorted(path.name for path in folder.iterdir())
    return [(str(path), classes.index(path.parent.name)) for path in sorted(folder.rglob("*.png"))], classes


class WithClasses(list):
    classes, templates = None, None


def row(name, ours, theirs):
    print(f"| {name} | {ours:.5f} | {theirs:.5f} | {abs(ours - theirs):.1e} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    work = pathlib.Path(tempfile.mkdtemp())
    run = pathlib.Path(options.run)
    checkpoint = run / "checkpoints" / (run / ("best" if (run / "best").exists() else "latest")).read_text().strip()
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{checkpoint}")
    image = lambda path: transform(Image.open(path).convert("RGB"))  # noqa: E731
    to_png = lambda path: pathlib.Path(path).read_bytes()  # noqa: E731

    def loader(samples, collate=None):
        pairs = WithClasses((image(path), target) for path, target in samples)
        pairs.classes = classes
        return torch.utils.data.DataLoader(pairs, 64, collate_fn=collate)

    test, classes = pictures(work / "test-pictures", options.images, 1)
    train, train_classes = pictures(work / "train-pictures", options.images, 2)
    assert classes == train_classes
    print("| number | couplet | reference | difference |\n|---|---|---|---|")

    def write(name, split, samples, retrieval=False, **kind):
        samples = WithClasses(samples)
        samples.classes, samples.templates = classes, TEMPLATES
        out = work / name
        (out / split).mkdir(parents=True, exist_ok=True)
        convert = writer.convert_retrieval_dataset if retrieval else writer.convert_dataset
        convert(samples, split, str(out), transform=to_png, image_format="png", max_count=300, verbose=False, **kind)
        return out

    # Zero-shot classification.
    folder = write("wds_shapes", "test", test)
    write("wds_shapes", "train", train)
    ours = evaluate(work, "zero-shot", "--model", run, "--dataset", folder)
    theirs = zeroshot_classification.evaluate(model, loader(test), tokenizer, classes, TEMPLATES, "cpu", amp=False)
    row("zero-shot top-1", ours["top1"], theirs["acc1"])
    row("zero-shot top-5", ours["top5"], theirs["acc5"])
    row("zero-shot mean per class", ours["mean_per_class"], theirs["mean_per_class_recall"])

    # Several labels per image: its own class and some others.
    rng = random.Random(0)
    many = []
    for path, label in test:
        labels = torch.zeros(len(classes), dtype=torch.int64)
        labels[[label, rng.randrange(len(classes)), (label + 8) % len(classes)]] = 1
        many.append((path, labels))
    folder = write("wds_many", "test", many, multilabel=True)
    ours = evaluate(work, "zero-shot", "--model", run, "--dataset", folder)
    theirs = zeroshot_classification.evaluate(model, loader(many), tokenizer, classes, TEMPLATES, "cpu", amp=False)
    row("zero-shot mAP", ours["map"], theirs["mean_average_precision"])

    # Retrieval, with one to five captions per image.
    captioned = [(path, [TEMPLATES[n % 3].format(c=classes[label]) + f" number {rng.randrange(999)}"
                         for n in range(rng.randint(1, 5))]) for path, label in test]
    folder = write("wds_captions", "test", captioned, retrieval=True)
    ours = evaluate(work, "retrieval", "--model", run, "--dataset", folder)
    collate = lambda batch: (torch.stack([one[0] for one in batch]), [one[1] for one in batch])  # noqa: E731
    theirs = zeroshot_retrieval.evaluate(model, loader(captioned, collate), tokenizer, "cpu", False, [1, 5, 10])
    for k in (1, 5, 10):
        row(f"image to text recall@{k}", ours[f"image_to_text_recall@{k}"], theirs[f"text_retrieval_recall@{k}"])
        row(f"text to image recall@{k}", ours[f"text_to_image_recall@{k}"], theirs[f"image_retrieval_recall@{k}"])

    probes(work, run, train, test)


def probes(work, run, train, test):
    """Linear probes and neighbours on the same features."""
    from safetensors.numpy import load_file, save_file
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    features, labels, files = {}, {}, {}
    for name, samples in (("train", train), ("test", test)):
        out = work / f"{name}.safetensors"
        couplet("embed", "--model", run, "--images", *[path for path, _ in samples], "--out", out, "--raw")
        features[name] = load_file(out)["image_features"]
        labels[name] = np.array([label for _, label in samples])
        save_file({"image_features": features[name], "labels": labels[name]}, out)
        files[name] = out
    given = ("--features", files["train"], "--test-features", files["test"])
    wide = features["train"].astype(np.float64)

    def objective(coef, intercept, c):
        logits = wide @ coef.T + intercept
        logits -= logits.max(1, keepdims=True)
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(wide)), labels["train"]]
        return losses.sum() + 0.5 / c * (coef**2).sum()

    for c in (0.001, 0.1, 0.316, 10.0):
        out = work / "probe.safetensors"
        start = time.perf_counter()
        ours = evaluate(work, "linear-probe", *given, "-C", c, "--out", out)
        seconds = [time.perf_counter() - start]
        start = time.perf_counter()
        theirs = LogisticRegression(C=c, max_iter=1000).fit(features["train"].astype(np.float64), labels["train"])
        seconds.append(time.perf_counter() - start)
        row(f"linear probe top-1, C = {c}", ours["top1"], theirs.score(features["test"].astype(np.float64), labels["test"]))
        fitted = load_file(out)
        ours, theirs = objective(fitted["coef"], fitted["intercept"], c), objective(theirs.coef_, theirs.intercept_, c)
        print(f"| … its loss, relative | {ours:.5f} | {theirs:.5f} | {(ours - theirs) / theirs:.1e} |")
        print(f"| … seconds | {seconds[0]:.1f} | {seconds[1]:.1f} | |")
    swept = evaluate(work, "linear-probe", *given)
    print(f"| swept: top-1 {swept['top1']:.4f} at C = {swept['c']:.2e} | | | |")
    for k in (1, 20):
        ours = evaluate(work, "knn", *given, "-k", k)
        theirs = KNeighborsClassifier(k, metric="cosine").fit(features["train"], labels["train"])
        row(f"k-NN top-1, k = {k}", ours["top1"], theirs.score(features["test"], labels["test"]))


main()
