//! Features, loss, gradients and AdamW steps against open_clip_torch 3.3.0.
//! `tests/fixtures/make_parity.py` writes the small models. `experiments/parity/compare.py` writes
//! full-size ones and runs the ignored test below.

use std::path::Path;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use couplet_loss::{Features, Loss, SigmoidLoss};
use couplet_model::weights::{self, HostTensor, NamedTensors};
use couplet_model::{
    BatchStatistics, Clip, ForwardContext, ModelSpec, ParameterMapper, ParameterVisitor, VitSpec,
    hugging_face, l2_normalize, map_parameters, open_clip, visit_parameters,
};

use crate::optimizer::{
    ModelOptimizer, OptimizerConfig, OptimizerSettings, OptimizerStep, global_norm,
};

/// Largest relative distance of features, logits, losses and gradient norms.
const FEATURES: f64 = 1e-5;
/// Largest relative distance of gradients and of parameters after three steps.
const GRADIENTS: f64 = 1e-4;
/// Share of the global norm below which a gradient is compared relative to that norm.
const NEGLIGIBLE: f64 = 1e-6;
/// These models draw nothing at random.
const PASS: ForwardContext = ForwardContext {
    seed: 0,
    step: 0,
    first_row: 0,
};

/// The fixture's tensors under `prefix`, without it.
fn part(fixture: &NamedTensors, prefix: &str) -> NamedTensors {
    fixture
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())))
        .collect()
}

fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// ‖ours − theirs‖ / ‖theirs‖
fn distance(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let gap: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    norm(&gap) / norm(theirs).max(1e-30)
}

struct Case {
    spec: ModelSpec,
    model: Clip,
    images: Tensor<4>,
    tokens: Tensor<2, Int>,
    loss: Loss,
    /// open_clip's features, logits, loss and gradient norm.
    theirs: NamedTensors,
}

impl Case {
    /// - folder: an open_clip folder.
    /// - theirs: the batch, `images` and `texts`, and open_clip's results for it.
    fn open(folder: &Path, theirs: NamedTensors) -> Self {
        let device = Device::flex().autodiff();
        let loaded = couplet_model::load(folder, None, &device).unwrap();
        let texts = &theirs["texts"];
        let ids: Vec<i32> = (texts.values.iter())
            .map(|id| format!("{id}").parse().unwrap())
            .collect();
        let loss = match loaded.source.spec.init_logit_bias {
            Some(_) => Loss::Sigmoid(SigmoidLoss {}),
            None => Loss::default(),
        };
        Self {
            spec: loaded.source.spec,
            model: loaded.model,
            images: Tensor::from_data(theirs["images"].clone().into_data(), &device),
            tokens: Tensor::from_data(TensorData::new(ids, texts.shape.clone()), &device),
            loss,
            theirs,
        }
    }

    /// The same case in f64, where rounding does not flip the sign of a ReLU's input.
    fn in_f64(mut self) -> Self {
        self.model = map_parameters(self.model, &mut ToF64);
        self.images = self.images.cast(FloatDType::F64);
        self
    }

    fn grads(&self, model: &Clip) -> (Tensor<1>, GradientsParams, BatchStatistics) {
        let (image_features, statistics) = model.encode_image_train(self.images.clone(), &PASS);
        let loss = self.loss.built_in().unwrap().forward(Features {
            image: l2_normalize(image_features),
            text: l2_normalize(model.encode_text(self.tokens.clone())),
            logit_scale: model.logit_scale.val(),
            logit_bias: model.logit_bias.as_ref().map(Param::val),
        });
        let grads = GradientsParams::from_grads(loss.backward(), model);
        (loss, grads, statistics)
    }

    fn logits_per_image(&self) -> Tensor<2> {
        let images = l2_normalize(self.model.encode_image(self.images.clone()));
        let texts = l2_normalize(self.model.encode_text(self.tokens.clone()));
        let scale = self.model.logit_scale.val().exp().unsqueeze();
        let logits = images.matmul(texts.transpose()) * scale;
        match &self.model.logit_bias {
            Some(bias) => logits + bias.val().unsqueeze(),
            None => logits,
        }
    }

    fn gap<const D: usize>(&self, what: &'static str, ours: Tensor<D>) -> Gap {
        let ours = HostTensor::from_tensor(ours.cast(FloatDType::F32)).values;
        Gap {
            distance: distance(&ours, &self.theirs[what].values),
            what: what.into(),
        }
    }

    /// The distances of features and logits, computed as in evaluation.
    fn forward_gaps(&self) -> Vec<Gap> {
        let model = self.model.valid();
        let images = self.images.clone().inner();
        let tokens = self.tokens.clone().inner();
        vec![
            self.gap("image_features", model.encode_image(images)),
            self.gap("text_features", model.encode_text(tokens)),
            self.gap("logits_per_image", self.logits_per_image()),
        ]
    }

    /// The distances of the first step's loss and of each of its gradients.
    fn gradient_gaps(&self, expected: &NamedTensors) -> (Gap, Vec<Gap>) {
        let (loss, grads, _) = self.grads(&self.model);
        let global = expected
            .values()
            .map(|t| norm(&t.values).powi(2))
            .sum::<f64>()
            .sqrt();
        let ours = named_grads(&self.model, &grads);
        assert_eq!(ours.len(), expected.len());
        let gaps = expected.iter().map(|(key, grad)| {
            let size = norm(&grad.values);
            let scale = if size < NEGLIGIBLE * global {
                global
            } else {
                size
            };
            let gap = distance(&ours[key].values, &grad.values) * size.max(1e-30);
            Gap {
                what: key.clone(),
                distance: gap / scale,
            }
        });
        (self.gap("loss", loss), gaps.collect())
    }

    /// The distances of the first step's gradient norm, and of each parameter and buffer after
    /// three AdamW steps.
    fn step_gaps(&self, expected: impl FnOnce() -> NamedTensors) -> (Gap, Vec<Gap>) {
        let config = OptimizerConfig::AdamW(OptimizerSettings {
            lr: 1e-3,
            betas: [0.9, 0.98],
            eps: Some(1e-6),
            weight_decay: 0.2,
            no_decay: Vec::new(),
            clip_norm: Some(1.0),
            layer_decay: None,
            group: Vec::new(),
        });
        let mut optimizer = ModelOptimizer::new(&config, &self.spec);
        let mut model = self.model.clone();
        let mut first_norm = 0.0;
        for at in 0..3 {
            let (_, grads, statistics) = self.grads(&model);
            model = model.update_statistics(statistics);
            let norm = global_norm(&model, &grads);
            let step = OptimizerStep {
                lr: 1e-3,
                grad_scale: optimizer.clip_factor(norm),
            };
            model = optimizer.step(model, grads, step);
            if at == 0 {
                first_norm = norm;
            }
        }
        drop(optimizer);
        let wanted = f64::from(self.theirs["grad_norm"].values[0]);
        let norm_gap = Gap {
            what: "grad_norm".into(),
            distance: (first_norm - wanted).abs() / wanted,
        };
        let after = weights::parameters(&model);
        let expected = expected();
        assert_eq!(after.len(), expected.len());
        let gaps = expected.iter().map(|(key, tensor)| Gap {
            distance: distance(
                &without_key_bias(key, &after[key].values),
                &without_key_bias(key, &tensor.values),
            ),
            what: key.clone(),
        });
        (norm_gap, gaps.collect())
    }
}

struct ToF64;

impl ParameterMapper for ToF64 {
    fn map<const D: usize>(&mut self, _: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trained = param.is_require_grad();
        param
            .map(|tensor| Tensor::from_inner(tensor.inner().cast(FloatDType::F64)))
            .set_require_grad(trained)
    }
}

/// The distance of one of our tensors from open_clip's.
struct Gap {
    what: String,
    distance: f64,
}

impl Gap {
    fn assert_below(&self, most: f64, name: &str) {
        let Self { what, distance } = self;
        assert!(*distance < most, "{name}, {what}: {distance:e}");
    }
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

/// The gradient of each parameter by its open_clip name.
fn named_grads(model: &Clip, grads: &GradientsParams) -> NamedTensors {
    struct Collect<'a>(&'a GradientsParams, NamedTensors);
    impl ParameterVisitor for Collect<'_> {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if !param.is_require_grad() {
                return;
            }
            let grad = self
                .0
                .get::<D>(param.id)
                .expect("every parameter has a gradient");
            let grad = grad.cast(FloatDType::F32);
            self.1.insert(name.into(), HostTensor::from_tensor(grad));
        }
    }
    let mut collect = Collect(grads, NamedTensors::new());
    visit_parameters(model, &mut collect);
    collect.1
}

/// The values without the biases of attention's keys. Their gradient is zero but for rounding,
/// which AdamW turns into full steps.
fn without_key_bias(name: &str, values: &[f32]) -> Vec<f32> {
    if name.ends_with("in_proj_bias") {
        let width = values.len() / 3;
        return [&values[..width], &values[2 * width..]].concat();
    }
    if name.ends_with("k_proj.bias") {
        return Vec::new();
    }
    values.to_vec()
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
