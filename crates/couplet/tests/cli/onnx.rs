//! `couplet model convert --format onnx`: what it writes, and ONNX Runtime on it, where Python has that.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use couplet_model::weights::{self, NamedTensors};
use couplet_model::{
    AttentionPoolSpec, Clip, ImagePool, ImagePositions, ImageTowerSpec, ModelSpec, PreprocessSpec,
    TextPool, open_clip, presets,
};

use crate::models::{couplet, scene};
use crate::towers::place;
use crate::workspace::{Workspace, fail, python_with, succeed};

/// Relative distances that rounding explains: of f32, and of half precision's 2^-11 in each of some tens of steps.
const FP32: f64 = 1e-5;
const FP16: f64 = 1e-2;
/// A product's operands are rounded to at most 1 part in 64 of a row's largest weight and 1 in 255 of the activations' range.
/// With weights and activations that reach three times their deviation, that is an error of about 2 % of each product, and
/// these towers have up to 18 of them one after the other, whose errors add as squares.
const INT8: f64 = 0.1;

const EVERY_PRECISION: &str = "--format onnx --precision fp32,fp16,int8";

/// Writes the model `name` of a workspace as ONNX, and runs what was written.
fn check(workspace: &Workspace, name: &str) {
    let convert = format!("model convert {name} {name}-onnx {EVERY_PRECISION}");
    let printed = succeed(couplet(workspace, &convert));
    for (precision, most) in [("fp32", FP32), ("fp16", FP16), ("int8", INT8)] {
        let distance = printed.lines().find_map(|line| {
            let rest = line.strip_prefix(precision)?.split_once(" is within ")?.1;
            rest.split(' ').next()?.parse::<f64>().ok()
        });
        let distance = distance.unwrap_or_else(|| panic!("{name} {precision}: {printed}"));
        assert!(distance <= most, "{name} {precision}: {distance:e}");
        // The same weights, not something else that happens to be small.
        assert!(precision == "fp32" || distance > 0.0, "{name} {precision}");
    }
}

/// Statistics as those of a trained model.
fn stir(tensors: &mut NamedTensors) {
    for (name, tensor) in tensors.iter_mut() {
        let is = |end: &str| name.ends_with(end);
        for (at, value) in (0..5u8).cycle().zip(&mut tensor.values) {
            let step = f32::from(at) / 5.0;
            if is("running_mean") || is("bn3.bias") {
                *value = step - 0.3;
            } else if is("running_var") || is("bn3.weight") {
                *value = step + 0.5;
            }
        }
    }
}

fn place_spec(workspace: &Workspace, name: &str, spec: &ModelSpec) {
    let folder = workspace.path(name);
    fs::create_dir(&folder).unwrap();
    let model = Clip::init(spec, 3, &Device::flex());
    let mut tensors = weights::parameters(&model);
    stir(&mut tensors);
    let model = weights::fill(model, tensors, Path::new(name)).unwrap();
    let preprocess = PreprocessSpec::default();
    let tokenizer = open_clip::TokenizerCfg::default();
    open_clip::save(&folder, &model, spec, &preprocess, &tokenizer).unwrap();
}

/// A small ResNet with a small text tower.
fn resnet() -> ModelSpec {
    let mut spec = presets::find("RN50").unwrap();
    let ImageTowerSpec::ResNet(tower) = &mut spec.image else {
        panic!("a ResNet preset");
    };
    (tower.image_size, tower.layers, tower.width) = (64, [2, 1, 2, 1], 8);
    tower.heads = 4;
    spec.text = presets::find("ViT-Ti-8-32").unwrap().text;
    spec.embed_dim = 48;
    spec
}

/// A ViT of quick GELUs that leaves pixels over, with other text lengths.
fn quick_vit() -> ModelSpec {
    let mut spec = presets::find("ViT-Ti-8-32").unwrap();
    spec.activation = couplet_model::Activation::QuickGelu;
    spec.text.context_length = 19;
    let ImageTowerSpec::Vit(tower) = &mut spec.image else {
        panic!("a ViT preset");
    };
    (tower.image_size, tower.patch_size, tower.layers) = (45, 7, 2);
    tower.layer_scale = Some(0.3);
    spec
}

/// An attention pool whose outputs' mean counts, fixed positions, and a text tower that pools by a query.
fn pooled() -> ModelSpec {
    let mut spec = presets::find("ViT-Ti-8-32").unwrap();
    (spec.text.causal, spec.text.layers) = (false, 2);
    spec.text.pool = TextPool::Map { heads: 2 };
    let ImageTowerSpec::Vit(tower) = &mut spec.image else {
        panic!("a ViT preset");
    };
    tower.layers = 2;
    tower.attention_pool = Some(AttentionPoolSpec {
        queries: 3,
        heads: 2,
    });
    (tower.pool, tower.positions) = (ImagePool::Mean, ImagePositions::SinCos2d);
    spec
}

#[test]
fn onnx_runtime_computes_the_features_of_clips_towers() {
    if python_with("onnxruntime").is_none() {
        return;
    }
    let workspace = scene("ViT-Ti-8-64-siglip");
    check(&workspace, "model");
    place_spec(&workspace, "resnet", &resnet());
    check(&workspace, "resnet");
    place_spec(&workspace, "quick", &quick_vit());
    check(&workspace, "quick");
    place_spec(&workspace, "pooled", &pooled());
    check(&workspace, "pooled");
}

#[test]
fn onnx_runtime_computes_the_features_of_other_towers() {
    if python_with("onnxruntime").is_none() {
        return;
    }
    let workspace = Workspace::with(&[]);
    for name in [
        "hugging-face-siglip",
        "roberta",
        "bert",
        "xlm-roberta",
        "modern-bert",
        "dual-encoder",
        "dual-encoder-vit",
    ] {
        place(&workspace, name);
        check(&workspace, name);
    }
}

#[test]
fn a_folder_of_onnx_has_what_its_readers_look_for() {
    let workspace = scene("ViT-Ti-8-32");
    let convert = format!("model convert model onnx {EVERY_PRECISION} --no-check");
    let printed = succeed(couplet(&workspace, &convert));
    assert!(printed.contains("onnx/onnx/model.onnx"), "{printed}");
    for part in ["vision_model", "text_model", "model"] {
        let sizes = ["", "_fp16", "_quantized"].map(|suffix| {
            let path = workspace.path(&format!("onnx/onnx/{part}{suffix}.onnx"));
            fs::metadata(path).unwrap().len()
        });
        // Half and a quarter of the weights.
        assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    }
    let config = workspace.json("onnx/config.json");
    assert_eq!(config["model_type"], "clip");
    let processor = workspace.json("onnx/preprocessor_config.json");
    assert_eq!(processor["crop_size"]["height"], 32);
    assert!(workspace.path("onnx/tokenizer.json").is_file());

    let again = fail(couplet(&workspace, &convert), 1);
    assert!(again.contains("already holds"), "{again}");
    let other = "model convert model hf --format hf --precision fp16";
    let printed = fail(couplet(&workspace, other), 1);
    assert!(printed.contains("--format onnx"), "{printed}");
    assert!(!workspace.path("hf").exists());
}

/// transformers pads CLIP's texts with the end token, which a tower that reads its padding was not trained with.
#[test]
fn a_tokenizer_that_would_pad_otherwise_is_not_written() {
    let workspace = scene("ViT-Ti-8-64-siglip");
    let convert = "model convert model onnx --format onnx --no-check";
    let printed = succeed(couplet(&workspace, convert));
    assert!(printed.contains("no tokenizer is written"), "{printed}");
    assert!(workspace.path("onnx/onnx/model.onnx").is_file());
    assert!(!workspace.path("onnx/tokenizer.json").exists());
}

#[test]
fn without_onnx_runtime_the_files_are_written_and_how_to_run_them_is_said() {
    let workspace = scene("ViT-Ti-8-32");
    let mut convert = couplet(&workspace, "model convert model onnx --format onnx");
    let printed = succeed(convert.env("COUPLET_PYTHON", "no-such-python"));
    for part in ["no-such-python", "pip install onnxruntime"] {
        assert!(printed.contains(part), "{printed}");
    }
    assert!(workspace.path("onnx/onnx/model.onnx").is_file());
}
