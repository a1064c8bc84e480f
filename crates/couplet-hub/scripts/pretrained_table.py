"""Write `pretrained.tsv` from open_clip's own table, for the architectures that Couplet builds.

    python scripts/pretrained_table.py > pretrained.tsv

Run it in the crate's folder with the release of open_clip that the header of the table names. Licences are not in
open_clip; `LICENCES` has what the weights' pages state.
"""

import json
import os
import re
import sys
from pathlib import Path

import open_clip
from open_clip import constants
from open_clip.pretrained import _PRETRAINED

CONFIGS = Path(open_clip.__file__).parent / "model_configs"

# The first pattern that matches `ARCH@TAG` counts: (pattern, licence, whether commercial use is allowed).
LICENCES = [
    (r".*@openai$", "MIT", "yes"),
    (r".*@metaclip", "CC-BY-NC-4.0", "no"),
    (r".*@dfn(2b|5b)", "apple-amlr", "no"),
    (r".*SigLIP.*@webli$", "Apache-2.0", "yes"),
    (r".*CLIPA.*@", "Apache-2.0", "yes"),
    (r".*@(frozen_)?(laion|datacomp|commonpool)", "MIT", "yes"),
    (r".*@(yfcc15m|cc12m)$", "MIT", "yes"),
]

# Text towers of Hugging Face that Couplet builds.
TEXT_MODELS = re.compile(r"roberta|^bert|/bert", re.IGNORECASE)


def config_of(architecture):
    path = CONFIGS / f"{architecture}.json"
    return json.loads(path.read_text()) if path.exists() else None


def is_built(config):
    """Whether Couplet builds both towers of an architecture."""
    if config is None or config.get("multimodal_cfg"):
        return False
    vision, text = config["vision_cfg"], config["text_cfg"]
    timm = vision.get("timm_model_name")
    if timm is not None and not re.match(r"vit_.*_siglip_", timm):
        return False
    name = text.get("hf_model_name")
    return name is None or bool(TEXT_MODELS.search(name))


def licence_of(name):
    for pattern, licence, commercial in LICENCES:
        if re.match(pattern, name):
            return licence, commercial
    return "unknown", "unknown"


def sha256_of(url):
    """What open_clip checks: OpenAI's links hold the hash, open_clip's file names end in its first 8 digits."""
    if "openaipublic" in url:
        return url.split("/")[-2]
    if "mlfoundations" in url:
        return os.path.splitext(os.path.basename(url))[0].split("-")[-1]
    return ""


def numbers(values):
    return ",".join(f"{value:g}" if value == round(value, 6) else repr(value) for value in values)


def main():
    rows, missing = [], []
    for architecture, tags in _PRETRAINED.items():
        config = config_of(architecture)
        if config is None and architecture.endswith("-quickgelu"):
            config = config_of(architecture.removesuffix("-quickgelu"))
        if not is_built(config):
            continue
        for tag, cfg in tags.items():
            url, hub = cfg["url"], cfg["hf_hub"].rstrip("/")
            sha256 = sha256_of(url)
            # A link without a hash cannot be checked, and the hub has the same weights.
            if not sha256:
                url = ""
            # open_clip names the repository of another epoch here, so only the link has these weights.
            epoch = re.search(r"laion400m_e\d+$", hub)
            if epoch and epoch.group() != tag:
                hub = ""
            licence, commercial = licence_of(f"{architecture}@{tag}")
            rows.append([
                architecture, tag, hub, url, sha256, licence, commercial,
                "quick-gelu" if cfg.get("quick_gelu") else "gelu",
                numbers(cfg["mean"]), numbers(cfg["std"]), cfg["interpolation"], cfg["resize_mode"],
            ])
    known = {path.stem for path in CONFIGS.glob("*.json")} | set(_PRETRAINED)
    for architecture in sorted(known, key=str.lower):
        config = config_of(architecture) or config_of(architecture.removesuffix("-quickgelu"))
        if not is_built(config):
            missing.append(architecture)
    out = sys.stdout
    out.write(f"# open_clip {open_clip.__version__}, written by scripts/pretrained_table.py\n")
    out.write("# architecture\ttag\thub repository\tlink\tSHA-256\tlicence\tcommercial use\tactivation\tmean\tstd\t"
              "interpolation\tresize\n")
    for row in rows:
        out.write("\t".join(row) + "\n")
    untagged = sorted((a for a in known if is_built(config_of(a)) and a not in _PRETRAINED), key=str.lower)
    out.write("# architectures that Couplet builds and that have no weights\n")
    for architecture in untagged:
        out.write(f"untagged\t{architecture}\n")
    out.write("# architectures of open_clip that Couplet does not build\n")
    for architecture in missing:
        out.write(f"missing\t{architecture}\n")


if __name__ == "__main__":
    main()
