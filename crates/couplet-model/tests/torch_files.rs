//! Files that PyTorch wrote: TorchScript archives and training checkpoints of small open_clip
//! models, with the features that PyTorch computes. `fixtures/make_torch_files.py` made them.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use couplet_model::{Layout, Loaded, inspect, load};
use serde_json::Value;

/// The largest difference of a feature of magnitude 1 to PyTorch's.
const TOLERANCE: f32 = 2e-5;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch_files");
    folder.join(name)
}

fn expected() -> Value {
    serde_json::from_str(&fs::read_to_string(fixture("expected.json")).unwrap()).unwrap()
}

/// An open_clip config file of the model that a fixture holds.
fn config(folder: &Path, model: &str) -> String {
    let path = folder.join(format!("{model}.json"));
    let config = serde_json::json!({ "model_cfg": expected()[model]["config"] });
    fs::write(&path, config.to_string()).unwrap();
    path.to_str().unwrap().to_string()
}

/// The largest distance of all features to PyTorch's.
fn distance(loaded: &Loaded, model: &str) -> f32 {
    let device = Device::flex();
    let size = loaded.source.spec.image.image_size();
    let pixels = (0..u16::try_from(2 * 3 * size * size).unwrap())
        .map(|at| f32::from(at * 37 % 101) / 50.0 - 1.0)
        .collect::<Vec<_>>();
    let images = Tensor::from_data(TensorData::new(pixels, [2, 3, size, size]), &device);
    let tokens = vec![30, 5, 7, 31, 0, 0, 30, 9, 31, 0, 0, 0];
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [2, 6]), &device);
    let values = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().unwrap();
    let ours = [
        ("image_features", values(loaded.model.encode_image(images))),
        ("text_features", values(loaded.model.encode_text(tokens))),
    ];
    let all = expected();
    let mut largest = 0.0f32;
    for (name, ours) in ours {
        let theirs: Vec<f32> = serde_json::from_value(all[model][name].clone()).unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            largest = largest.max((a - b).abs() / b.abs().max(1.0));
        }
    }
    largest
}

const ACTIVATIONS: [&str; 3] = ["gelu", "quick-gelu", "gelu-tanh"];

#[test]
fn an_archive_has_the_activation_that_its_code_computes() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["traced", "scripted"] {
        for model in ACTIVATIONS {
            let path = fixture(&format!("{kind}-{model}.pt"));
            let arch = config(folder.path(), model);
            let loaded = load(&path, Some(&arch), &Device::flex()).unwrap();
            assert_eq!(loaded.source.layout, Layout::OpenClip);
            let distance = distance(&loaded, model);
            assert!(distance < TOLERANCE, "{kind} {model}: {distance:e}");
            let error = inspect(&path, None).unwrap_err().to_string();
            let hint = format!("its code computes {model})");
            assert!(error.contains("--arch") && error.contains(&hint), "{error}");
        }
    }
}

#[test]
fn a_named_architecture_overrules_an_archive_and_a_config_next_to_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    fs::copy(fixture("traced-gelu.pt"), &path).unwrap();
    let quick = config(folder.path(), "quick-gelu");
    let loaded = load(&path, Some(&quick), &Device::flex()).unwrap();
    assert_eq!(loaded.source.spec.activation.name(), "quick-gelu");
    assert!(distance(&loaded, "gelu") > 100.0 * TOLERANCE);

    fs::rename(&quick, folder.path().join("open_clip_config.json")).unwrap();
    let error = inspect(&path, None).unwrap_err().to_string();
    assert!(
        error.contains("computes gelu, the architecture's image tower quick-gelu"),
        "{error}"
    );
    let gelu = config(folder.path(), "gelu");
    let loaded = load(&path, Some(&gelu), &Device::flex()).unwrap();
    assert!(distance(&loaded, "gelu") < TOLERANCE);
}

#[test]
fn openais_archives_need_no_architecture_and_heed_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture("openai.pt");
    let loaded = load(&path, None, &Device::flex()).unwrap();
    assert_eq!(loaded.source.layout, Layout::OpenAi);
    assert!(distance(&loaded, "openai") < TOLERANCE);
    let mut gelu = expected()["openai"]["config"].clone();
    gelu["quick_gelu"] = false.into();
    let arch = folder.path().join("gelu.json");
    let text = serde_json::json!({ "model_cfg": gelu }).to_string();
    fs::write(&arch, text).unwrap();
    let source = inspect(&path, arch.to_str()).unwrap();
    assert_eq!(source.spec.activation.name(), "gelu");
}

#[test]
fn checkpoints_of_training_code_are_seen_through() {
    let folder = tempfile::tempdir().unwrap();
    let arch = config(folder.path(), "gelu");
    for name in ["plain.pt", "legacy.pt", "averaged.pt", "lightning.ckpt"] {
        let loaded = load(&fixture(name), Some(&arch), &Device::flex()).unwrap();
        let distance = distance(&loaded, "gelu");
        assert!(distance < TOLERANCE, "{name}: {distance:e}");
    }
    let error = load(&fixture("two-models.pt"), Some(&arch), &Device::flex()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("`student`, `teacher`"), "{error}");
}

#[test]
fn weights_of_another_architecture_are_listed_without_reading_them() {
    let folder = tempfile::tempdir().unwrap();
    let arch = config(folder.path(), "openai");
    let error = inspect(&fixture("plain.pt"), Some(&arch))
        .unwrap_err()
        .to_string();
    for part in [
        "visual.proj: [16, 8] in the file, [64, 8] in the model",
        "more of another shape",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let error = inspect(&fixture("plain.pt"), Some("RN50"))
        .unwrap_err()
        .to_string();
    for part in [
        "visual.bn1.weight: missing from the file",
        "visual.proj: the model has no such tensor",
        "more missing",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
