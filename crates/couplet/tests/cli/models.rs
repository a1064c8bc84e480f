//! The binary on models: embed, classify, convert, describe, tokenize.

use std::fs;
use std::process::Command;

use burn::tensor::Device;
use couplet_model::{Clip, PreprocessSpec, open_clip, presets, weights};

use crate::workspace::{Workspace, fail, succeed};

/// A folder with `model`, `image.png` and `texts.txt`.
pub fn scene(preset: &str) -> Workspace {
    let workspace = Workspace::with(&[("texts.txt", "a red circle\na blue star\n")]);
    let spec = presets::find(preset).unwrap();
    let model = workspace.path("model");
    fs::create_dir(&model).unwrap();
    let clip = Clip::init(&spec, 1, &Device::flex());
    open_clip::save(
        &model,
        &clip,
        &spec,
        &PreprocessSpec::default(),
        &open_clip::TokenizerCfg::default(),
    )
    .unwrap();
    image::RgbImage::from_fn(50, 40, |x, y| {
        [x, y, x * y].map(|v| u8::try_from(v % 256).unwrap()).into()
    })
    .save(workspace.path("image.png"))
    .unwrap();
    workspace
}

/// The binary with these arguments, none of which has a space.
pub fn couplet(workspace: &Workspace, arguments: &str) -> Command {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    workspace.couplet(&arguments)
}

#[test]
fn a_model_converted_through_hugging_faces_layout_embeds_the_same() {
    let workspace = scene("ViT-Ti-8-32");
    let run = |arguments: &str| succeed(couplet(&workspace, arguments));
    let embed = |model: &str, out: &str| {
        run(&format!(
            "embed --model {model} --images image.png image.png --texts texts.txt --out {out}"
        ));
        weights::read(&workspace.path(out)).unwrap().tensors
    };
    let first = embed("model", "first.safetensors");
    assert_eq!(first["image_features"].shape[0], 2);
    let norm: f32 = first["text_features"].values[..first["text_features"].shape[1]]
        .iter()
        .map(|v| v * v)
        .sum();
    assert!((norm - 1.0).abs() < 1e-5, "{norm}");

    run("model convert model hf --format hf");
    run("model convert hf oc --format open_clip");
    for (model, out) in [("hf", "second.safetensors"), ("oc", "third.safetensors")] {
        assert_eq!(embed(model, out), first);
    }
    let printed = fail(couplet(&workspace, "model convert model hf --format hf"), 1);
    assert!(printed.contains("already holds"), "{printed}");

    run("embed --model model --texts texts.txt --out texts.npy");
    let bytes = fs::read(workspace.path("texts.npy")).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY"));
    let values = &first["text_features"].values;
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(bytes.ends_with(&data) && (bytes.len() - data.len()).is_multiple_of(64));
}

#[test]
fn a_resnet_is_described_and_cannot_be_converted_to_hugging_face() {
    let workspace = scene("ViT-Ti-8-64-siglip");
    let printed = succeed(couplet(&workspace, "model describe RN50"));
    assert!(
        printed.contains("38.32 M") && printed.contains("modified ResNet"),
        "{printed}"
    );
    let printed = fail(couplet(&workspace, "model convert model hf --format hf"), 1);
    for part in ["text.causal", "image.attention_pool", "logit_bias"] {
        assert!(printed.contains(part), "{printed}");
    }
    assert!(!workspace.path("hf").exists());
}

#[test]
fn damaged_files_are_named() {
    let workspace = scene("ViT-Ti-8-32");
    let fails = |arguments: &str| fail(couplet(&workspace, arguments), 1);
    let printed = fails("embed --model model --images texts.txt --out o.npy");
    assert!(
        printed.contains("texts.txt") && printed.contains("expected a JPEG"),
        "{printed}"
    );

    let weights = workspace.path("model").join(open_clip::WEIGHTS_FILE);
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let printed = fails("embed --model model --texts texts.txt --out o.npy");
    assert!(printed.contains(open_clip::WEIGHTS_FILE), "{printed}");

    let config = workspace.path("model").join(open_clip::CONFIG_FILE);
    fs::write(config, "{\"model_cfg\": 3}").unwrap();
    let printed = fails("model describe model");
    assert!(printed.contains(open_clip::CONFIG_FILE), "{printed}");
}

#[test]
fn labels_are_ranked_and_texts_become_ids() {
    let workspace = scene("ViT-Ti-8-32");
    let mut classify = couplet(&workspace, "classify --model model --labels");
    let printed = succeed(classify.args(["a dog,a cat", "image.png"]));
    let shares: Vec<f64> = printed
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(shares.len(), 2);
    assert!(shares[0] >= shares[1] && (shares[0] + shares[1] - 100.0).abs() < 0.02);

    let printed = succeed(workspace.couplet(&["tokenize", "a photo of a cat"]));
    assert_eq!(printed, "49406 320 1125 539 320 2368 49407\n");
    let train = "tokenizer train --texts texts.txt --vocab-size 520 --out own.json";
    succeed(couplet(&workspace, train));
    let tokenize = "tokenize --tokenizer own.json --texts texts.txt";
    let printed = succeed(couplet(&workspace, tokenize));
    assert_eq!(printed.lines().count(), 2);
}
