//! The binary on models: embed, classify, convert, describe, tokenize.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use burn::tensor::Device;
use couplet_model::{Clip, PreprocessSpec, open_clip, presets, weights};

fn couplet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_couplet"))
        .args(arguments)
        .output()
        .expect("the binary runs")
}

fn succeeds(arguments: &[&str]) -> String {
    let output = couplet(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn fails(arguments: &[&str]) -> String {
    let output = couplet(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).expect("text")
}

/// A model folder, an image and a file of texts.
fn scene(folder: &Path, preset: &str) -> [String; 3] {
    let spec = presets::find(preset).unwrap();
    let model = folder.join("model");
    fs::create_dir(&model).unwrap();
    let clip = Clip::init(&spec, 1, &Device::flex());
    open_clip::save(&model, &clip, &spec, &PreprocessSpec::default(), None).unwrap();
    let image = folder.join("image.png");
    image::RgbImage::from_fn(50, 40, |x, y| {
        [x, y, x * y].map(|v| u8::try_from(v % 256).unwrap()).into()
    })
    .save(&image)
    .unwrap();
    let texts = folder.join("texts.txt");
    fs::write(&texts, "a red circle\na blue star\n").unwrap();
    [model, image, texts].map(|path| path.to_str().unwrap().to_string())
}

#[test]
fn a_model_embeds_the_same_after_a_journey_through_hugging_faces_layout() {
    let folder = tempfile::tempdir().unwrap();
    let [model, image, texts] = scene(folder.path(), "ViT-Ti-8-32");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let embed = |model: &str, out: &str| {
        succeeds(&[
            "embed", "--model", model, "--images", &image, &image, "--texts", &texts, "--out", out,
        ]);
        weights::read(Path::new(out)).unwrap().tensors
    };
    let first = embed(&model, &path("first.safetensors"));
    assert_eq!(first["image_features"].shape[0], 2);
    let norm: f32 = first["text_features"].values[..first["text_features"].shape[1]]
        .iter()
        .map(|v| v * v)
        .sum();
    assert!((norm - 1.0).abs() < 1e-5, "{norm}");

    succeeds(&["model", "convert", &model, &path("hf"), "--format", "hf"]);
    succeeds(&[
        "model",
        "convert",
        &path("hf"),
        &path("oc"),
        "--format",
        "open_clip",
    ]);
    for (model, out) in [("hf", "second.safetensors"), ("oc", "third.safetensors")] {
        assert_eq!(embed(&path(model), &path(out)), first);
    }
    let told = fails(&["model", "convert", &model, &path("hf"), "--format", "hf"]);
    assert!(told.contains("already holds"), "{told}");

    let npy = path("texts.npy");
    succeeds(&["embed", "--model", &model, "--texts", &texts, "--out", &npy]);
    let bytes = fs::read(npy).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY"));
    let values = &first["text_features"].values;
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(bytes.ends_with(&data) && (bytes.len() - data.len()).is_multiple_of(64));
}

#[test]
fn a_resnet_is_described_and_kept_from_hugging_face_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let told = succeeds(&["model", "describe", "RN50"]);
    assert!(
        told.contains("38.32 M") && told.contains("modified ResNet"),
        "{told}"
    );
    let [model, _, _] = scene(folder.path(), "ViT-Ti-8-64-siglip");
    let out = folder.path().join("hf");
    let told = fails(&[
        "model",
        "convert",
        &model,
        out.to_str().unwrap(),
        "--format",
        "hf",
    ]);
    for part in ["text.causal", "image.attention_pool", "logit_bias"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!out.exists());
}

#[test]
fn what_is_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [model, _, texts] = scene(folder.path(), "ViT-Ti-8-32");
    let out = folder.path().join("o.npy");
    let out = out.to_str().unwrap();
    let told = fails(&["embed", "--model", &model, "--images", &texts, "--out", out]);
    assert!(
        told.contains("texts.txt") && told.contains("expected a JPEG"),
        "{told}"
    );

    let weights = Path::new(&model).join(open_clip::WEIGHTS_FILE);
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let told = fails(&["embed", "--model", &model, "--texts", &texts, "--out", out]);
    assert!(told.contains(open_clip::WEIGHTS_FILE), "{told}");

    fs::write(
        Path::new(&model).join(open_clip::CONFIG_FILE),
        "{\"model_cfg\": 3}",
    )
    .unwrap();
    let told = fails(&["model", "describe", &model]);
    assert!(told.contains(open_clip::CONFIG_FILE), "{told}");
}

#[test]
fn labels_are_ranked_and_texts_become_ids() {
    let folder = tempfile::tempdir().unwrap();
    let [model, image, texts] = scene(folder.path(), "ViT-Ti-8-32");
    let told = succeeds(&[
        "classify",
        "--model",
        &model,
        "--labels",
        "a dog,a cat",
        &image,
    ]);
    let shares: Vec<f64> = told
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(shares.len(), 2);
    assert!(shares[0] >= shares[1] && (shares[0] + shares[1] - 100.0).abs() < 0.02);

    let told = succeeds(&["tokenize", "a photo of a cat"]);
    assert_eq!(told, "49406 320 1125 539 320 2368 49407\n");
    let own = folder.path().join("tokenizer.json");
    let own = own.to_str().unwrap();
    succeeds(&[
        "tokenizer",
        "train",
        "--texts",
        &texts,
        "--vocab-size",
        "520",
        "--out",
        own,
    ]);
    let told = succeeds(&["tokenize", "--tokenizer", own, "--texts", &texts]);
    assert_eq!(told.lines().count(), 2);
}
