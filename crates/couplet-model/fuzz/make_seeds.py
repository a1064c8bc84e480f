"""Writes small valid files as seeds for the fuzzers.

    python make_seeds.py FOLDER      writes FOLDER/{safetensors,torch,pickle,open_clip_config,hugging_face_config}/
"""
import json
import pathlib
import struct
import sys
import zipfile

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent / "tests" / "fixtures" / "torch_files"


def shapes():
    """Of the model in small.json."""
    width, embed, patch, patches, context, vocabulary = 16, 8, 4, 4, 6, 32
    named = {
        "positional_embedding": [context, width], "token_embedding.weight": [vocabulary, width],
        "text_projection": [width, embed], "logit_scale": [],
        "visual.class_embedding": [width], "visual.positional_embedding": [patches + 1, width],
        "visual.conv1.weight": [width, 3, patch, patch], "visual.proj": [width, embed],
    }
    for norm in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        named |= {f"{norm}.weight": [width], f"{norm}.bias": [width]}
    for tower in ("transformer", "visual.transformer"):
        block = f"{tower}.resblocks.0."
        for layer, out, into in [
            ("attn.in_proj_", 3 * width, width), ("attn.out_proj.", width, width),
            ("mlp.c_fc.", 4 * width, width), ("mlp.c_proj.", width, 4 * width),
        ]:
            named |= {f"{block}{layer}weight": [out, into], f"{block}{layer}bias": [out]}
        for norm in ("ln_1", "ln_2"):
            named |= {f"{block}{norm}.weight": [width], f"{block}{norm}.bias": [width]}
    return named


def safetensors(prefix="", dtype="F32", size=4):
    header, at = {}, 0
    for name, shape in shapes().items():
        length = size
        for side in shape:
            length *= side
        header[prefix + name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def main(folder):
    config = json.loads((HERE / "small.json").read_text())
    tower = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    hugging_face = {
        "model_type": "clip", "projection_dim": 8, "logit_scale_init_value": 2.6592,
        "text_config": tower | {"vocab_size": 32, "max_position_embeddings": 6, "eos_token_id": 31, "hidden_act": "gelu"},
        "vision_config": tower | {"image_size": 8, "patch_size": 4, "hidden_act": "gelu"},
    }
    files = {
        "safetensors": [safetensors(), safetensors("module._orig_mod."), safetensors(dtype="BF16", size=2)],
        "torch": [path.read_bytes() for path in sorted(FIXTURES.iterdir()) if path.suffix in (".pt", ".ckpt")],
        "pickle": [],
        "open_clip_config": [json.dumps(config).encode(), json.dumps(config["model_cfg"]).encode()],
        "hugging_face_config": [json.dumps(hugging_face).encode()],
    }
    for path in sorted(FIXTURES.iterdir()):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                files["pickle"].append(archive.read(name))
    for target, contents in files.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for at, data in enumerate(contents):
            (folder / target / f"seed-{at:02}").write_bytes(data)


main(pathlib.Path(sys.argv[1]))
