//! Low-rank updates against PEFT 0.21. `tests/fixtures/make_adapter_parity.py` writes the models.

use std::path::Path;

use burn::tensor::Device;
use couplet_model::weights::{self, NamedTensors};
use couplet_model::{Clip, LowRankUpdate, ModelSpec, hugging_face, open_clip, peft};
use serde_json::Value;
use tempfile::TempDir;

use super::case::{Case, distance};
use super::{FEATURES, GRADIENTS, parameters_in, part};
use crate::adapt::{AdaptConfig, AdaptKind, Adaptation, TowerAdaptConfig};

/// Largest relative distance of sums that both sides compute in f32.
const SUMS: f64 = 1e-6;

/// One of its updates.
const FIRST: &str = "adapter/base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_";

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

/// Updates of all layers, of other ranks and alphas in each tower, that are not nothing.
fn other_updates(spec: &ModelSpec) -> Clip {
    let mut config = AdaptConfig::new(AdaptKind::Lora);
    config.rank = Some(3);
    let image = TowerAdaptConfig {
        rank: Some(2),
        alpha: Some(5.0),
        params: None,
    };
    config.image = Some(image);
    let adaptation = Adaptation::new(&config, spec, None, (0, false)).unwrap();
    let model = adaptation.apply(Clip::init(spec, 0, &Device::flex()));
    let mut updates = model.updates();
    for update in updates.values_mut() {
        for (at, value) in (0_u16..).zip(&mut update.b.values) {
            *value = f32::from(at).sin();
        }
    }
    model.with_updates(&updates)
}

/// Models without a form of transformers': the parts of an attention's projection become one update, and PEFT's patterns
/// of the text tower do not hold in the image tower, whose names end alike.
#[test]
fn updates_of_models_of_open_clip_alone_are_read_as_they_were() {
    let mut vit = Fixture::read("open-clip").case().spec;
    let couplet_model::ImageTowerSpec::Vit(image) = &mut vit.image else {
        unreachable!("a ViT");
    };
    image.layer_scale = Some(0.1);
    let mut resnet = couplet_model::presets::find("RN50").unwrap();
    let couplet_model::ImageTowerSpec::ResNet(image) = &mut resnet.image else {
        unreachable!("a ResNet");
    };
    (image.layers, image.width, image.image_size, image.heads) = ([1; 4], 8, 32, 4);
    (resnet.text.width, resnet.text.heads, resnet.text.layers) = (16, 2, 1);
    resnet.text.vocab_size = 64;
    for spec in [vit, resnet] {
        let model = other_updates(&spec);
        let folder = tempfile::tempdir().unwrap();
        peft::write(folder.path(), &spec, None, &model.updates()).unwrap();
        let adapter = peft::read(folder.path()).unwrap();
        let mut base = weights::parameters(&Clip::init(&spec, 0, &Device::flex()));
        base = adapter.merge(base, &spec).unwrap();
        assert_near(&base, &merged(&model), SUMS);
        let read = adapter.layer_updates(&spec).unwrap();
        assert!(read.keys().eq(model.updates().keys()));
        let config = std::fs::read_to_string(folder.path().join(peft::CONFIG_FILE)).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let targets = format!("^{}$", config["target_modules"].as_str().unwrap());
        let targets = fancy_regex::Regex::new(&targets).unwrap();
        let is_target = |name: &str| targets.is_match(name).unwrap();
        assert!(is_target("transformer.resblocks.0.mlp.c_fc"));
        assert!(!is_target("visual.x.transformer.resblocks.0.mlp.c_fc"));
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused_before_they_are_multiplied() {
    let fixture = Fixture::read("clip");
    let spec = fixture.case().spec;
    let base = || parameters_in(fixture.model("weights/").path());
    let broken = |change: &dyn Fn(&mut NamedTensors, &mut Value)| {
        let mut other = Fixture::read("clip");
        change(&mut other.tensors, &mut other.adapter);
        let folder = tempfile::tempdir().unwrap();
        let config = other.adapter.to_string();
        std::fs::write(folder.path().join(peft::CONFIG_FILE), config).unwrap();
        let tensors = part(&other.tensors, "adapter/");
        weights::save(&folder.path().join(peft::WEIGHTS_FILE), &tensors).unwrap();
        let merged = peft::read(folder.path()).and_then(|read| read.merge(base(), &spec));
        merged.unwrap_err().to_string()
    };
    let large = |tensors: &mut NamedTensors, _: &mut Value| {
        let half = |shape: [usize; 2]| weights::HostTensor {
            shape: shape.to_vec(),
            values: vec![1.0; shape[0] * shape[1]],
        };
        tensors.insert(format!("{FIRST}A.weight"), half([4, 1_000_000]));
        tensors.insert(format!("{FIRST}B.weight"), half([1_000_000, 4]));
    };
    assert!(broken(&large).contains("layers.0.mlp.fc1: has shape [1000000, 1000000]"));
    let lacking = |tensors: &mut NamedTensors, _: &mut Value| {
        tensors.remove(&format!("{FIRST}B.weight"));
    };
    assert!(broken(&lacking).contains("only one of lora_A and lora_B"));
    let other = |tensors: &mut NamedTensors, _: &mut Value| {
        for half in ["A", "B"] {
            let tensor = tensors.remove(&format!("{FIRST}{half}.weight")).unwrap();
            let name = format!("{FIRST}{half}.weight").replace("layers.0", "layers.7");
            tensors.insert(name, tensor);
        }
    };
    assert!(broken(&other).contains("layers.7.mlp.fc1: the model has no such module"));
    for (key, value, part) in [
        ("use_dora", Value::Bool(true), "use_dora"),
        ("peft_type", "LOHA".into(), "LOHA"),
        ("bias", "all".into(), "bias"),
        ("init_lora_weights", "pissa_niter_4".into(), "pissa"),
        ("lora_alpha", Value::Null, "lora_alpha"),
        (
            "alpha_pattern",
            serde_json::json!({"(": 1}),
            "alpha_pattern",
        ),
    ] {
        let message = broken(&|_, config| config[key] = value.clone());
        assert!(message.contains(part), "{key}: {message}");
    }
}
