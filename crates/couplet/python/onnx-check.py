#!/usr/bin/env python3
"""Runs a folder that `couplet model convert MODEL FOLDER --format onnx` wrote, with ONNX Runtime.

    onnx-check.py FOLDER --images images.npy image_features.npy --texts ids.npy text_features.npy --scale 14.3

compares with features that something else computed of the same inputs (not normalised, a row each), and prints the largest
distance of each file: that of a feature divided by the feature's norm, and that of a logit divided by --scale. Without
references, inputs are drawn from --seed, and a batch is compared with its rows one by one. `onnx` checks the files, too, if
it is there. Needs numpy and onnxruntime; ends with code 3 without them.
"""

import argparse
import json
import pathlib
import sys

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
try:
    import onnx
except Exception:  # As good as missing: it only checks, and may not fit the protobuf that is there.
    onnx = None

SUFFIXES = {"": "fp32", "_fp16": "fp16", "_quantized": "int8"}


def distance(ours, reference):
    """The largest distance of a row from that of the reference, relative to its norm."""
    if ours.shape != reference.shape:
        raise ValueError(f"{ours.shape}, expected {reference.shape}")
    if not np.isfinite(ours).all():
        raise ValueError("NaN or infinite")
    ours, reference = ours.astype(np.float64), reference.astype(np.float64)
    norms = np.maximum(np.linalg.norm(reference, axis=-1), 1e-12)
    return float((np.linalg.norm(ours - reference, axis=-1) / norms).max())


def unit(features):
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def open_session(path):
    if onnx is not None:
        # By its path: models above 2 GiB are not checked in memory.
        onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    # Half precision on a CPU is widened, with a warning for each node.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(session, images, ids):
    given = {}
    for one in session.get_inputs():
        if one.name == "pixel_values":
            given[one.name] = images
        elif one.name == "input_ids":
            given[one.name] = ids
        elif one.name == "attention_mask":
            given[one.name] = np.ones_like(ids)
        else:
            raise ValueError(f"unknown input {one.name}")
    return given


def run(session, images=None, ids=None):
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds(session, images, ids))))


def run_rows(session, images=None, ids=None):
    """As `run`, a row of the batch at a time."""
    count = len(images if images is not None else ids)
    at = lambda array, row: None if array is None else array[row : row + 1]
    rows = [run(session, at(images, row), at(ids, row)) for row in range(count)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def tower_distances(session, name, inputs, references):
    """Of a batch and of its rows one by one, for every input."""
    for given, reference in zip(inputs, references):
        key = "images" if name == "image_embeds" else "ids"
        whole, single = run(session, **{key: given}), run_rows(session, **{key: given})
        if reference is None:
            reference = whole["pooler_output"]
        for outputs in (whole, single):
            yield distance(outputs[name], unit(reference))
            yield distance(outputs["pooler_output"], reference)


def logit_distances(session, images, texts, references, options):
    image_reference, text_references = references
    for ids, text_reference in zip(texts, text_references):
        outputs = run(session, images, ids)
        per_image = outputs["logits_per_image"]
        if not np.array_equal(per_image.T, outputs["logits_per_text"]):
            raise ValueError("logits that are not each other's")
        if image_reference is None:
            continue
        yield distance(outputs["image_embeds"], unit(image_reference))
        yield distance(outputs["text_embeds"], unit(text_reference))
        if options.scale is not None:
            cosines = unit(image_reference) @ unit(text_reference).T
            logits = options.scale * cosines + options.bias
            yield float(np.abs(per_image - logits).max() / options.scale)


def draw(options, folder):
    """Inputs for a folder without references."""
    rng = np.random.default_rng(options.seed)
    any_suffix = next(end for end in SUFFIXES if (folder / f"text_model{end}.onnx").is_file())
    session = lambda name: onnxruntime.InferenceSession(str(folder / f"{name}{any_suffix}.onnx"))
    side = session("vision_model").get_inputs()[0].shape[-1]
    images = rng.standard_normal((3, 3, side, side), dtype=np.float32)
    length = session("text_model").get_inputs()[0].shape[1]
    length = length if isinstance(length, int) else options.length
    return images, rng.integers(0, options.vocabulary, (3, length), dtype=np.int64)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--images", nargs=2, metavar=("NPY", "FEATURES"))
    parser.add_argument("--texts", nargs=2, metavar=("NPY", "FEATURES"), action="append", default=[])
    parser.add_argument("--scale", type=float, help="factor of the logits")
    parser.add_argument("--bias", type=float, default=0.0, help="what is added to the logits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=8, help="tokens that are drawn where the model leaves it open")
    parser.add_argument("--vocabulary", type=int, default=32, help="token ids that are drawn")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if bool(options.images) != bool(options.texts):
        parser.error("--images and --texts go together")
    return options


def main():
    options = arguments()
    folder = options.folder / "onnx"
    if options.images and options.texts:
        images, image_reference = (np.load(path) for path in options.images)
        texts, text_references = zip(*((np.load(ids), np.load(features)) for ids, features in options.texts))
    else:
        images, ids = draw(options, folder)
        image_reference, texts, text_references = None, [ids], [None]
    found = []
    for suffix, precision in SUFFIXES.items():
        files = {name: folder / f"{name}{suffix}.onnx" for name in ("vision_model", "text_model", "model")}
        if not files["model"].is_file():
            continue
        for name, path in files.items():
            session = open_session(path)
            if name == "vision_model":
                distances = tower_distances(session, "image_embeds", [images], [image_reference])
            elif name == "text_model":
                distances = tower_distances(session, "text_embeds", texts, text_references)
            else:
                distances = logit_distances(session, images, texts, (image_reference, text_references), options)
            largest = max(distances, default=0.0)
            found.append({"file": path.name, "precision": precision, "distance": largest})
    if not found:
        sys.exit(f"{folder}: no model.onnx")
    if options.json:
        print(json.dumps({"runtime": onnxruntime.__version__, "files": found}))
        return
    for one in found:
        print(f"{one['file']:28} {one['distance']:.1e}")
    print(f"{'largest':28} {max(one['distance'] for one in found):.1e}")


main()
