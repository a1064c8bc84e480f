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

#[test]
fn weights_that_do_not_fit_their_architecture_are_described_by_the_differences() {
    let workspace = scene("ViT-Ti-8-32");
    let weights = workspace.path("model").join(open_clip::WEIGHTS_FILE);
    fs::rename(&weights, workspace.path("bare.safetensors")).unwrap();
    let describe = |arch: &str| format!("model describe bare.safetensors --arch {arch}");
    let printed = succeed(couplet(&workspace, &describe("ViT-Ti-8-32")));
    assert!(printed.contains("bare.safetensors"), "{printed}");
    let printed = fail(couplet(&workspace, &describe("ViT-Ti-16-64")), 1);
    let misshapen = "visual.conv1.weight: [";
    assert!(printed.contains(misshapen), "{printed}");
    let printed = fail(couplet(&workspace, &describe("RN50")), 1);
    for part in [
        "visual.layer1.0.conv1.weight: missing",
        "visual.ln_pre.bias: the model has no such",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_where_they_would_be_used() {
    let workspace = scene("ViT-Ti-8-32");
    let path = workspace.path("model").join(open_clip::WEIGHTS_FILE);
    let mut tensors = weights::read(&path).unwrap().tensors;
    tensors.get_mut("visual.proj").unwrap().values[3] = f32::NAN;
    let last = tensors.get_mut("token_embedding.weight").unwrap();
    last.values[..2].fill(f32::INFINITY);
    weights::save(&path, &tensors).unwrap();
    for arguments in [
        "embed --model model --texts texts.txt --out o.npy",
        "classify --model model --labels x,y image.png",
        "model convert model out --format hf",
    ] {
        let printed = fail(couplet(&workspace, arguments), 1);
        let message = "3 values of the weights are NaN or infinite, the first in tensor";
        assert!(printed.contains(message), "{printed}");
        assert!(printed.contains("token_embedding.weight"), "{printed}");
    }
    assert!(!workspace.path("out").exists());
}

#[test]
fn absurd_sizes_are_refused_by_key_before_anything_is_allocated() {
    let workspace = scene("ViT-Ti-8-32");
    succeed(couplet(&workspace, "model convert model hf --format hf"));
    let path = workspace.path("hf/config.json");
    let sound = fs::read_to_string(&path).unwrap();
    let config: serde_json::Value = serde_json::from_str(&sound).unwrap();
    for (table, key, value, field) in [
        (
            "text_config",
            "num_hidden_layers",
            4_000_000_000u64,
            "text.layers: 4000000000",
        ),
        (
            "vision_config",
            "hidden_size",
            1 << 40,
            "image.width: 1099511627776",
        ),
        (
            "vision_config",
            "patch_size",
            0,
            "image.patch_size: must be at least 1",
        ),
        (
            "text_config",
            "vocab_size",
            u64::MAX,
            "text.vocab_size: 18446744073709551615",
        ),
    ] {
        let mut absurd = config.clone();
        absurd[table][key] = value.into();
        fs::write(&path, absurd.to_string()).unwrap();
        let printed = fail(couplet(&workspace, "model describe hf"), 1);
        assert!(printed.contains(field), "{printed}");
    }
}

#[test]
fn a_folder_with_both_configs_opens_as_its_weights_are() {
    let workspace = scene("ViT-Ti-8-32");
    succeed(couplet(&workspace, "model convert model hf --format hf"));
    let copy = |from: &str, to: &str| fs::copy(workspace.path(from), workspace.path(to)).unwrap();
    copy("model/open_clip_config.json", "hf/open_clip_config.json");
    let printed = succeed(couplet(&workspace, "model describe hf"));
    assert!(printed.contains("Hugging Face's layout"), "{printed}");
    copy("hf/config.json", "model/config.json");
    let printed = succeed(couplet(&workspace, "model describe model"));
    assert!(printed.contains("open_clip's layout"), "{printed}");
    copy("model/open_clip_model.safetensors", "hf/model.safetensors");
    let printed = succeed(couplet(&workspace, "model describe hf"));
    assert!(printed.contains("open_clip's layout"), "{printed}");
}

#[test]
fn embeddings_have_the_precision_that_is_asked_for() {
    let workspace = scene("ViT-Ti-8-32");
    let features = |precision: &str| {
        let out = format!("{precision}.safetensors");
        let inputs = "--images image.png --texts texts.txt";
        let command = format!("embed --model model {inputs} --precision {precision} --out {out}");
        succeed(couplet(&workspace, &command));
        weights::read(&workspace.path(&out)).unwrap().tensors
    };
    let wide = features("fp32");
    for narrow in [features("bf16"), features("fp16")] {
        for (name, wide) in &wide {
            let products = wide.values.iter().zip(&narrow[name].values);
            let rows = f32::from(u8::try_from(wide.shape[0]).unwrap());
            let cosine = products.map(|(a, b)| a * b).sum::<f32>() / rows;
            assert!(cosine > 0.999, "{name}: {cosine}");
        }
        assert_ne!(wide, narrow);
    }
    let fails = |arguments: &str, code| fail(couplet(&workspace, arguments), code);
    let unknown = fails(
        "embed --model model --images image.png --precision half --out o.npy",
        2,
    );
    assert!(unknown.contains("--precision"), "{unknown}");
    let given = fails(
        "eval retrieval --features fp32.safetensors --precision bf16",
        1,
    );
    assert!(given.contains("--precision: features"), "{given}");
}
