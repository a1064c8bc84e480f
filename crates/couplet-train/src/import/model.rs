//! `[model]` and `[freeze]`.

use std::path::Path;

use couplet_model::{Activation, BlockCount, ModelSpec, open_clip, presets};
use toml::{Table, Value};

use super::page::{Page, number, numbers, text};
use super::translation::Translation;
use crate::nearest::nearest;

/// Weights of presets by model and tag, and the repository of the Hugging Face hub that has them.
/// Source: open_clip 3.3.0 `pretrained.py`.
const HUB: [(&str, &str, &str); 14] = [
    (
        "ViT-B-32",
        "openai",
        "timm/vit_base_patch32_clip_224.openai",
    ),
    (
        "ViT-B-32",
        "laion400m_e32",
        "timm/vit_base_patch32_clip_224.laion400m_e32",
    ),
    (
        "ViT-B-32",
        "laion2b_s34b_b79k",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    ),
    (
        "ViT-B-32",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    ),
    (
        "ViT-B-16",
        "openai",
        "timm/vit_base_patch16_clip_224.openai",
    ),
    (
        "ViT-B-16",
        "laion2b_s34b_b88k",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    ),
    (
        "ViT-B-16",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    ),
    ("ViT-B-16", "dfn2b", "apple/DFN2B-CLIP-ViT-B-16"),
    (
        "ViT-L-14",
        "openai",
        "timm/vit_large_patch14_clip_224.openai",
    ),
    (
        "ViT-L-14",
        "laion2b_s32b_b82k",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    ),
    (
        "ViT-L-14",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    ),
    (
        "ViT-L-14-336",
        "openai",
        "timm/vit_large_patch14_clip_336.openai",
    ),
    (
        "ViT-H-14",
        "laion2b_s32b_b79k",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    ),
    ("RN50", "openai", "timm/resnet50_clip.openai"),
];
const QUICK_GELU: &str = "-quickgelu";

/// Where the architecture comes from.
#[expect(clippy::large_enum_variant, reason = "there is one in an import")]
enum Architecture {
    Preset(String),
    Described(ModelSpec),
    /// It is that of weights in this place, by this hub name.
    Weights(String, Option<String>),
}

/// Writes `[model]`.
/// - config: a file of open_clip's model configs that describes `--model`.
pub(super) fn write(page: &mut Page, from: &mut Translation, config: Option<&Path>) {
    let Some(mut architecture) = architecture(from, config) else {
        return;
    };
    page.table("model");
    if let Architecture::Preset(name) = &architecture {
        page.key("preset", text(name));
    }
    weights(page, from, &architecture);
    let quick = from.arguments.has("force-quick-gelu");
    let siglip = from.arguments.has("siglip");
    let length: Option<usize> = from.arguments.number_given("force-context-length");
    let size = image_size(from);
    let dropout: Option<f64> = from.arguments.number_given("force-patch-dropout");
    if let Architecture::Described(spec) = &mut architecture {
        if quick {
            spec.activation = Activation::QuickGelu;
        }
        if siglip {
            spec.init_logit_scale = 10f32.ln();
            spec.init_logit_bias = Some(-10.0);
        }
        if let Some(length) = length {
            spec.text.context_length = length;
        }
        if let Some(size) = size {
            spec.image.set_image_size(size);
        }
        let mut table = described(spec);
        if let Some(dropout) = dropout
            && let Some(Value::Table(image)) = table.get_mut("image")
        {
            image.insert("patch_dropout".into(), Value::Float(dropout));
        }
        let model = Table::from_iter([("model".to_string(), Value::Table(table))]);
        let text = toml::to_string(&model).expect("a model's spec has a TOML form");
        // Its first line is `[model]`, which is there already.
        page.line(text.trim_start_matches("[model]").trim());
        preprocess(page, from);
        return;
    }
    if quick {
        page.key("activation", text("quick-gelu"));
    }
    if siglip {
        page.key("init_logit_scale", number(10f64.ln()));
        page.key("init_logit_bias", number(-10.0));
    }
    preprocess(page, from);
    if size.is_some() || dropout.is_some() {
        page.table("model.image");
        if let Some(size) = size {
            page.key("image_size", size.to_string());
        }
        if let Some(dropout) = dropout {
            page.key("patch_dropout", number(dropout));
        }
    }
    if let Some(length) = length {
        page.table("model.text");
        page.key("context_length", length.to_string());
    }
}

fn architecture(from: &mut Translation, config: Option<&Path>) -> Option<Architecture> {
    let name = from.model_name();
    if let Some(path) = config {
        return match open_clip::read_config(path) {
            Ok(read) => {
                from.note(
                    "--model",
                    format!("`{name}` as {} describes it", path.display()),
                );
                Some(Architecture::Described(read.spec))
            }
            Err(error) => {
                let causes = couplet_data::with_causes(&error);
                from.arguments
                    .problems
                    .push(format!("--model-config: {causes}"));
                None
            }
        };
    }
    if let Some(folder) = name.strip_prefix("local-dir:") {
        return Some(Architecture::Weights(from.place(folder), None));
    }
    if let Some(hub) = name.strip_prefix("hf-hub:") {
        let folder = hub.rsplit('/').next().unwrap_or(hub);
        let place = from.place(&format!("weights/{folder}"));
        return Some(Architecture::Weights(place, Some(hub.to_string())));
    }
    if presets::find(&name).is_some() {
        return Some(Architecture::Preset(name));
    }
    let near = nearest(&name, presets::names());
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    from.arguments.problems.push(format!(
        "--model: `{name}` is none of the presets of `couplet model list`, nor described by --model-config FILE.json, \
         which reads open_clip's model configs of plain ViT and ResNet towers{near}"
    ));
    None
}

/// The spec's keys, without those that have their default.
fn described(spec: &ModelSpec) -> Table {
    let mut table = Table::try_from(spec).expect("a model's spec has a TOML form");
    // Scalars first: a TOML table ends where the next begins.
    table.retain(|_, value| !matches!(value, Value::Array(list) if list.is_empty()));
    table
}

fn weights(page: &mut Page, from: &mut Translation, architecture: &Architecture) {
    let starts_from = from.arguments.text("pretrained").map(str::to_string);
    if let (true, Some(given)) = (from.continues, &starts_from) {
        page.comment(&format!(
            "It began with the weights `{given}`, and goes on from its checkpoint."
        ));
        return;
    }
    if let Architecture::Weights(place, hub) = architecture {
        if let Some(hub) = hub {
            download(page, from, "--model", hub, place);
        }
        page.key("weights", text(place));
        return;
    }
    let Some(given) = starts_from else {
        return;
    };
    let is_file = given.contains(['/', '\\', '$', '.']);
    if is_file {
        let place = from.place(&given);
        page.key("weights", text(&place));
        return;
    }
    let model = from.model_name();
    let tag = given.to_lowercase().replace('-', "_");
    let place = from.place(&format!("weights/{model}-{tag}"));
    let base = model.strip_suffix(QUICK_GELU).unwrap_or(&model);
    let known = HUB
        .iter()
        .find(|(name, own, _)| *name == base && *own == tag);
    if let Some((_, _, hub)) = known {
        download(page, from, "--pretrained", hub, &place);
    } else {
        let remark = format!("Weights `{given}`: download them and name the file or folder here.");
        from.before_training("--pretrained", &remark);
        page.comment(&remark);
    }
    if tag == "openai" && !model.ends_with(QUICK_GELU) && !from.arguments.has("force-quick-gelu") {
        let remark = format!(
            "OpenAI's weights were trained with QuickGELU: open_clip before 2.29 chose it by itself, later \
             versions and Couplet only for `{model}{QUICK_GELU}`."
        );
        page.comment(&remark);
        from.note("--pretrained", remark);
    }
    page.key("weights", text(&place));
}

fn download(page: &mut Page, from: &mut Translation, flag: &str, hub: &str, place: &str) {
    let command = format!("hf download {hub} --local-dir {place}");
    page.comment(&format!("First: {command}"));
    from.before_training(flag, &command);
}

/// The side of the square that `--force-image-size` gives.
fn image_size(from: &mut Translation) -> Option<usize> {
    let sides = from.arguments.numbers("force-image-size")?;
    let is_square = sides
        .windows(2)
        .all(|pair| pair[0].to_bits() == pair[1].to_bits());
    let side = sides
        .first()
        .copied()
        .filter(|side| is_square && side.fract() == 0.0 && *side >= 1.0);
    if side.is_none() || sides.len() > 2 {
        from.arguments.problems.push(format!(
            "--force-image-size: {}: images are square; give one side in pixels",
            numbers(&sides)
        ));
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number of pixels, checked above"
    )]
    side.map(|side| side as usize)
}

fn preprocess(page: &mut Page, from: &mut Translation) {
    let mut keys = Vec::new();
    for (flag, key) in [("image-mean", "mean"), ("image-std", "std")] {
        let Some(mut values) = from.arguments.numbers(flag) else {
            continue;
        };
        if let [one] = values[..] {
            values = vec![one; 3];
        }
        if values.len() == 3 {
            keys.push((key, numbers(&values)));
        } else {
            let problem = format!("--{flag}: expected one number or three");
            from.arguments.problems.push(problem);
        }
    }
    if from.arguments.has("image-interpolation") {
        let choices = ["bicubic", "bilinear", "random"];
        let filter = match from.arguments.choice("image-interpolation", &choices) {
            "bilinear" => "bilinear",
            _ => "bicubic",
        };
        keys.push(("interpolation", text(filter)));
    }
    if from.arguments.has("image-resize-mode") {
        let mode = (from.arguments).choice("image-resize-mode", &["shortest", "longest", "squash"]);
        keys.push(("resize_mode", text(mode)));
    }
    if !keys.is_empty() {
        page.table("model.preprocess");
        for (key, value) in keys {
            page.key(key, value);
        }
    }
}

const FREEZE_NORMS: &str = "lock-image-freeze-bn-stats";

/// Writes `[freeze]`.
pub(super) fn write_freeze(page: &mut Page, from: &mut Translation, config: Option<&Path>) {
    let spec = match config {
        Some(path) => open_clip::read_config(path).ok().map(|read| read.spec),
        None => presets::find(&from.model_name()),
    };
    let blocks = spec.as_ref().map(BlockCount::new);
    let image = blocks.as_ref().map(BlockCount::image);
    let text_blocks = blocks.as_ref().map(BlockCount::text);
    let towers = [
        ("image", "lock-image", "lock-image-unlocked-groups", image),
        (
            "text",
            "lock-text",
            "lock-text-unlocked-layers",
            text_blocks,
        ),
    ];
    let mut keys = Vec::new();
    for (key, lock, unlocked, layers) in towers {
        let groups: usize = from.arguments.number(unlocked, 0);
        if from.arguments.has(lock) {
            keys.push((key, frozen(groups, layers), groups));
        }
    }
    if keys.is_empty() {
        return;
    }
    let has_norms = spec.is_some_and(|spec| spec.image.has_batch_norm());
    if from.arguments.has("lock-image") && has_norms && !from.arguments.has(FREEZE_NORMS) {
        let remark = "a locked ResNet's batch norms use their running statistics here; open_clip goes on to \
                      normalize with each batch's and to update them, unless --lock-image-freeze-bn-stats is given";
        from.note("--lock-image", remark.into());
        page.comment("Batch norms of a frozen tower use their running statistics, as with --lock-image-freeze-bn-stats.");
    }
    for (flag, groups) in keys
        .iter()
        .map(|(key, _, groups)| (format!("--lock-{key}"), *groups))
    {
        if groups == 1 {
            from.note(
                &flag,
                "with one unlocked part, the last norm is trained as well as the projection".into(),
            );
        }
    }
    page.table("freeze");
    for (key, value, groups) in keys {
        if groups == 1 {
            page.comment(
                "open_clip trains only the projection; here the last norm is trained with it.",
            );
        }
        page.key(key, text(&value));
    }
}

/// The part of a tower that is frozen if its last `groups` groups are trained: the stem, each block
/// but the last, the last block with the last norm, and the projection.
/// Source: open_clip `VisionTransformer.lock`, `lock_text_tower`.
fn frozen(groups: usize, layers: Option<usize>) -> String {
    match groups {
        0 => "all".into(),
        _ if layers.is_some_and(|layers| groups >= layers + 2) => "none".into(),
        _ => format!("all but last {} blocks", groups - 1),
    }
}
