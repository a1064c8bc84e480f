//! Low-rank updates against PEFT 0.21. `tests/fixtures/make_adapter_parity.py` writes the models.

use std::path::Path;

use couplet_model::weights::{self, NamedTensors};
use couplet_model::{Clip, LowRankUpdate, ModelSpec, hugging_face, open_clip, peft};
use serde_json::Value;
use tempfile::TempDir;

use super::case::{Case, distance};
use super::{FEATURES, GRADIENTS, parameters_in, part};
use crate::adapt::{AdaptConfig, AdaptKind, Adaptation};

/// Largest relative distance of sums that both sides compute in f32.
const SUMS: f64 = 1e-6;

/// A model of the fixture.
struct Fixture {
    tensors: NamedTensors,
    config: Value,
    adapter: Value,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let fixture = weights::read(&folder.join("adapter_parity.safetensors")).unwrap();
        let configs = std::fs::read_to_string(folder.join("adapter_parity.json")).unwrap();
        let configs: Value = serde_json::from_str(&configs).unwrap();
        Self {
            tensors: part(&fixture.tensors, &format!("{name}/")),
            config: configs[name]["config"].clone(),
            adapter: configs[name]["adapter"].clone(),
        }
    }

    /// A folder of the model with some of the tensors.
    fn model(&self, tensors: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (config, weights) = match self.config.get("model_type") {
            Some(_) => (hugging_face::CONFIG_FILE, hugging_face::WEIGHTS_FILE),
            None => (open_clip::CONFIG_FILE, open_clip::WEIGHTS_FILE),
        };
        std::fs::write(folder.path().join(config), self.config.to_string()).unwrap();
        weights::save(&folder.path().join(weights), &part(&self.tensors, tensors)).unwrap();
        folder
    }

    /// An adapter with some of the tensors.
    fn adapter(&self, tensors: &str) -> peft::Adapter {
        let folder = tempfile::tempdir().unwrap();
        let config = self.adapter.to_string();
        std::fs::write(folder.path().join(peft::CONFIG_FILE), config).unwrap();
        let path = folder.path().join(peft::WEIGHTS_FILE);
        weights::save(&path, &part(&self.tensors, tensors)).unwrap();
        peft::read(folder.path()).unwrap()
    }

    /// The tensors of an adapter under the names of the model's parameters.
    fn updates(&self, tensors: &str, spec: &ModelSpec) -> NamedTensors {
        let updates = self.adapter(tensors).layer_updates(spec).unwrap();
        let halves = |(layer, update): (String, LowRankUpdate)| {
            let name = |half: &str| format!("{layer}.lora.{half}");
            [(name("a"), update.a), (name("b"), update.b)]
        };
        updates.into_iter().flat_map(halves).collect()
    }

    /// The model with the updates that its batch's results are of.
    fn case(&self) -> Case {
        let mut case = Case::open(self.model("weights/").path(), self.tensors.clone());
        let adapter = self.adapter("adapter/").layer_updates(&case.spec).unwrap();
        let config = AdaptConfig::new(AdaptKind::Lora);
        let adaptation = Adaptation::new(&config, &case.spec, Some(adapter), (0, false)).unwrap();
        case.model = adaptation.apply(case.model);
        case
    }
}

fn assert_near(ours: &NamedTensors, theirs: &NamedTensors, most: f64) {
    assert_eq!(ours.len(), theirs.len());
    for (name, tensor) in theirs {
        assert_eq!(ours[name].shape, tensor.shape, "{name}");
        let distance = distance(&ours[name].values, &tensor.values);
        assert!(distance < most, "{name}: {distance:e}");
    }
}

fn merged(model: &Clip) -> NamedTensors {
    weights::parameters(&model.clone().merged())
}

#[test]
fn updates_train_as_pefts() {
    for name in ["clip", "siglip", "dual-encoder"] {
        let fixture = Fixture::read(name);
        let case = fixture.case();
        for gap in case.forward_gaps() {
            gap.assert_below(FEATURES, name);
        }
        let grads = fixture.updates("grads/", &case.spec);
        let (loss, gradients) = case.gradient_gaps(&grads);
        loss.assert_below(FEATURES, name);
        let mut after = weights::parameters(&case.model);
        after.extend(fixture.updates("after/", &case.spec));
        let (norm, stepped) = case.step_gaps(|| after);
        norm.assert_below(FEATURES, name);
        for gap in gradients.iter().chain(&stepped) {
            gap.assert_below(GRADIENTS, name);
        }
    }
}

#[test]
fn updates_are_added_to_weights_as_by_peft() {
    for name in ["clip", "siglip", "dual-encoder", "open-clip"] {
        let fixture = Fixture::read(name);
        let theirs = parameters_in(fixture.model("merged/").path());
        let base = parameters_in(fixture.model("weights/").path());
        let spec = fixture.case().spec;
        let adapter = fixture.adapter("after/");
        assert_near(&adapter.merge(base, &spec).unwrap(), &theirs, SUMS);
        let updates = adapter.layer_updates(&spec).unwrap();
        let model = fixture.case().model.with_updates(&updates);
        assert_near(&merged(&model), &theirs, SUMS);
    }
}

#[test]
fn what_is_written_is_what_peft_wrote() {
    for name in ["clip", "siglip", "dual-encoder"] {
        let fixture = Fixture::read(name);
        let case = fixture.case();
        let folder = tempfile::tempdir().unwrap();
        let updates = case.model.updates();
        peft::write(folder.path(), &case.spec, Some("org/base"), &updates).unwrap();
        let written = weights::read(&folder.path().join(peft::WEIGHTS_FILE)).unwrap();
        let theirs = part(&fixture.tensors, "adapter/");
        assert_near(&written.tensors, &theirs, f64::MIN_POSITIVE);
        let read = peft::read(folder.path()).unwrap();
        assert_eq!(read.base.as_deref(), Some("org/base"));
        let read = read.layer_updates(&case.spec).unwrap();
        assert_eq!(read.len(), updates.len());
        for (layer, update) in read {
            let was = &updates[&layer];
            assert!((update.scale - was.scale).abs() < 1e-9, "{layer}");
            assert_eq!((&update.a, &update.b), (&was.a, &was.b), "{layer}");
        }
    }
}

/// A model without a form of transformers': the parts of an attention's projection become one update.
#[test]
fn updates_of_open_clips_attention_are_written_as_one() {
    let fixture = Fixture::read("open-clip");
    let case = fixture.case();
    let wanted = merged(&case.model);
    let mut spec = case.spec.clone();
    let couplet_model::ImageTowerSpec::Vit(vit) = &mut spec.image else {
        unreachable!("a ViT");
    };
    // No ViT of transformers has layer scale.
    vit.layer_scale = Some(0.1);
    let folder = tempfile::tempdir().unwrap();
    peft::write(folder.path(), &spec, None, &case.model.updates()).unwrap();
    let adapter = peft::read(folder.path()).unwrap();
    assert_eq!(adapter.modules(), 2 * 2 * 4);
    let base = parameters_in(fixture.model("weights/").path());
    let ours = adapter.merge(base, &case.spec).unwrap();
    assert_near(&ours, &wanted, SUMS);
}
