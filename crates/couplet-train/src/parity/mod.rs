//! Features, loss, gradients and AdamW steps against open_clip_torch 3.3.0.
//! `tests/fixtures/make_parity.py` writes the small models. `experiments/parity/compare.py` writes
//! full-size ones and runs the ignored test below.

mod adapters;
mod case;

use std::path::Path;

use burn::tensor::Device;
use couplet_model::weights::{self, NamedTensors};
use couplet_model::{VitSpec, hugging_face, open_clip};

use case::Case;

/// Largest relative distance of features, logits, losses and gradient norms.
const FEATURES: f64 = 1e-5;
/// Largest relative distance of gradients and of parameters after three steps.
const GRADIENTS: f64 = 1e-4;
/// The fixture's tensors under `prefix`, without it.
fn part(fixture: &NamedTensors, prefix: &str) -> NamedTensors {
    fixture
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())))
        .collect()
}
/// A small model of the fixture, its gradients, and its parameters after three steps.
fn small(name: &str) -> (Case, NamedTensors, NamedTensors) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fixture = weights::read(&folder.join("parity.safetensors")).unwrap();
    let theirs = part(&fixture.tensors, &format!("{name}/"));
    let configs = std::fs::read_to_string(folder.join("parity.json")).unwrap();
    let configs: serde_json::Value = serde_json::from_str(&configs).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let config = serde_json::json!({ "model_cfg": configs[name] });
    let path = scratch.path().join(open_clip::CONFIG_FILE);
    std::fs::write(path, config.to_string()).unwrap();
    let path = scratch.path().join(open_clip::WEIGHTS_FILE);
    weights::save(&path, &part(&theirs, "weights/")).unwrap();
    let grads = canonical(part(&theirs, "grads/"));
    let after = canonical(part(&theirs, "after/"));
    (Case::open(scratch.path(), theirs), grads, after)
}

/// The tensors of a model's folder under our names.
fn parameters_in(folder: &Path) -> NamedTensors {
    let loaded = couplet_model::load(folder, None, &Device::flex()).unwrap();
    weights::parameters(&loaded.model)
}

/// As [`small`], of a model with towers of timm's or transformers', which `make_tower_parity.py` writes.
fn small_of_other_towers(name: &str) -> (Case, NamedTensors, NamedTensors) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fixture = weights::read(&folder.join("tower_parity.safetensors")).unwrap();
    let theirs = part(&fixture.tensors, &format!("{name}/"));
    let configs = std::fs::read_to_string(folder.join("tower_parity.json")).unwrap();
    let configs: serde_json::Value = serde_json::from_str(&configs).unwrap();
    let config = &configs[name];
    // Gradients, too, have the names and shapes of a model's tensors.
    let saved = |tensors: &str| {
        let scratch = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(scratch.path().join(name), text);
        let weights_file = if config.get("model_type").is_some() {
            write(hugging_face::CONFIG_FILE, config.to_string()).unwrap();
            hugging_face::WEIGHTS_FILE
        } else {
            write(open_clip::CONFIG_FILE, config.to_string()).unwrap();
            open_clip::WEIGHTS_FILE
        };
        weights::save(&scratch.path().join(weights_file), &part(&theirs, tensors)).unwrap();
        scratch
    };
    let read = |tensors: &str| parameters_in(saved(tensors).path());
    let (grads, after) = (read("grads/"), read("after/"));
    (Case::open(saved("weights/").path(), theirs), grads, after)
}
fn check(name: &str) {
    hold(name, small(name));
}

fn hold(name: &str, (case, grads, after): (Case, NamedTensors, NamedTensors)) {
    for gap in case.forward_gaps() {
        gap.assert_below(FEATURES, name);
    }
    let (loss, gradients) = case.gradient_gaps(&grads);
    loss.assert_below(FEATURES, name);
    let (norm, stepped) = case.step_gaps(|| after);
    norm.assert_below(FEATURES, name);
    for gap in gradients.iter().chain(&stepped) {
        gap.assert_below(GRADIENTS, name);
    }
}

/// The environment variable that names the folder of `experiments/parity/compare.py`.
const FULL_SIZE: &str = "COUPLET_PARITY";

/// Writes the largest distances to `gaps.txt`, which `compare.py` collects.
#[test]
#[ignore = "needs a folder made by experiments/parity/compare.py"]
fn a_full_size_model_matches_open_clip() {
    let folder = std::env::var_os(FULL_SIZE).expect("COUPLET_PARITY names the folder");
    let folder = Path::new(&folder);
    let batch = weights::read(&folder.join("batch.safetensors")).unwrap();
    let case = Case::open(folder, batch.tensors);
    // Tensors with a model's names are read as one, whose names may be timm's.
    let is_siglip = case.spec.image.as_vit().is_some_and(VitSpec::is_siglip);
    let read = |file: &str| {
        if !is_siglip {
            return weights::read(&folder.join(file)).unwrap().tensors;
        }
        let scratch = tempfile::tempdir().unwrap();
        for (from, to) in [
            (open_clip::CONFIG_FILE, open_clip::CONFIG_FILE),
            (file, open_clip::WEIGHTS_FILE),
        ] {
            std::fs::copy(folder.join(from), scratch.path().join(to)).unwrap();
        }
        parameters_in(scratch.path())
    };
    let mut columns: Vec<f64> = case.forward_gaps().iter().map(|gap| gap.distance).collect();
    let (loss, gradients) = case.gradient_gaps(&read("grads.safetensors"));
    let (_, stepped) = case.step_gaps(|| read("after.safetensors"));
    columns.push(loss.distance);
    for gaps in [gradients, stepped] {
        let mut gaps = gaps;
        gaps.sort_by(|a, b| b.distance.total_cmp(&a.distance));
        columns.push(gaps[0].distance);
    }
    // For ResNets, open_clip's gradients of the same model and batch in f64.
    let in_f64 = folder.join("grads64.safetensors");
    if in_f64.exists() {
        let (_, gradients) = case.in_f64().gradient_gaps(&read("grads64.safetensors"));
        columns.extend(
            gradients
                .iter()
                .map(|gap| gap.distance)
                .max_by(f64::total_cmp),
        );
    }
    let columns: Vec<String> = columns.iter().map(|value| format!("{value:.1e}")).collect();
    std::fs::write(folder.join("gaps.txt"), columns.join(" ")).unwrap();
}

/// Removes the prefix of the text tower's names in open_clip's `CustomTextCLIP`.
fn canonical(tensors: NamedTensors) -> NamedTensors {
    tensors
        .into_iter()
        .map(|(name, tensor)| (name.trim_start_matches("text.").to_string(), tensor))
        .collect()
}

#[test]
fn a_gelu_model_matches_open_clip() {
    check("gelu");
}

#[test]
fn a_quickgelu_model_matches_open_clip() {
    check("quickgelu");
}

#[test]
fn a_resnet_matches_open_clip_in_both_modes_with_its_running_statistics() {
    check("resnet");
}

#[test]
fn a_siglip_style_model_matches_open_clip() {
    check("siglip");
}

#[test]
fn attention_pooling_layer_scale_and_fixed_positions_match_open_clip() {
    check("attention-pool");
}

#[test]
fn mean_and_first_token_pooling_match_open_clip() {
    check("odd");
}

#[test]
fn siglip_matches_open_clips_with_timms_image_tower() {
    hold("timm-siglip", small_of_other_towers("timm-siglip"));
}

#[test]
fn siglip_matches_hugging_faces() {
    let name = "hugging-face-siglip";
    hold(name, small_of_other_towers(name));
}

#[test]
fn text_encoders_match_open_clips_from_transformers() {
    for name in ["roberta", "bert", "xlm-roberta"] {
        hold(name, small_of_other_towers(name));
    }
}

#[test]
fn modern_bert_and_dual_encoders_match_transformers() {
    for name in ["modern-bert", "dual-encoder", "dual-encoder-vit"] {
        hold(name, small_of_other_towers(name));
    }
}
