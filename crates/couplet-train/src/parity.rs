//! Features, loss, gradients and AdamW steps against open_clip_torch 3.3.0.
//! The fixture is made by `tests/fixtures/make_parity.py`.

use std::path::Path;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use couplet_loss::{Loss, SigmoidLoss};
use couplet_model::weights::{self, HostTensor, NamedTensors};
use couplet_model::{
    BatchStatistics, Clip, ParameterVisitor, TrainPass, l2_normalize, open_clip, visit_parameters,
};

use crate::AdamWTable;
use crate::optimizer::ModelOptimizer;

const FEATURES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;
/// Of the global norm: below it a gradient is compared absolutely.
const NEGLIGIBLE: f64 = 1e-6;
/// Nothing is drawn in these models.
const PASS: TrainPass = TrainPass {
    seed: 0,
    step: 0,
    first_row: 0,
};

/// The part of the fixture under `prefix`.
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

/// ‖a − b‖ / ‖b‖
fn distance(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let gap: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    norm(&gap) / norm(theirs).max(1e-30)
}

fn assert_close<const D: usize>(what: &str, ours: Tensor<D>, theirs: &HostTensor) {
    let distance = distance(&HostTensor::from_tensor(ours).values, &theirs.values);
    assert!(distance < FEATURES, "{what}: {distance:e}");
}

struct Case {
    model: Clip,
    images: Tensor<4>,
    tokens: Tensor<2, Int>,
    theirs: NamedTensors,
    loss: Loss,
}

fn case(name: &str) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fixture = weights::read(&folder.join("parity.safetensors")).unwrap();
    let theirs = part(&fixture.tensors, &format!("{name}/"));
    let configs = std::fs::read_to_string(folder.join("parity.json")).unwrap();
    let configs: serde_json::Value = serde_json::from_str(&configs).unwrap();

    // The case as a folder of open_clip's.
    let scratch = tempfile::tempdir().unwrap();
    let config = serde_json::json!({ "model_cfg": configs[name] });
    let path = scratch.path().join(open_clip::CONFIG_FILE);
    std::fs::write(path, config.to_string()).unwrap();
    let path = scratch.path().join(open_clip::WEIGHTS_FILE);
    weights::save(&path, &part(&theirs, "weights/")).unwrap();

    let device = Device::flex().autodiff();
    let loaded = couplet_model::load(scratch.path(), None, &device).unwrap();
    let images = Tensor::from_data(theirs["images"].clone().into_data(), &device);
    let texts: Vec<i32> = (theirs["texts"].values.iter())
        .map(|id| format!("{id}").parse().unwrap())
        .collect();
    let tokens = Tensor::from_data(TensorData::new(texts, [6, 10]), &device);
    let loss = match loaded.source.spec.init_logit_bias {
        Some(_) => Loss::Sigmoid(SigmoidLoss {}),
        None => Loss::default(),
    };
    Case {
        model: loaded.model,
        images,
        tokens,
        theirs,
        loss,
    }
}

impl Case {
    fn grads(&self, model: &Clip) -> (Tensor<1>, GradientsParams, BatchStatistics) {
        let (image_features, statistics) = model.encode_image_train(self.images.clone(), &PASS);
        let loss = self.loss.forward(
            l2_normalize(image_features),
            l2_normalize(model.encode_text(self.tokens.clone())),
            model.logit_scale.val(),
            model.logit_bias.as_ref().map(Param::val),
        );
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
}

/// Every parameter's gradient under its open_clip name.
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
            self.1.insert(name.into(), HostTensor::from_tensor(grad));
        }
    }
    let mut collect = Collect(grads, NamedTensors::new());
    visit_parameters(model, &mut collect);
    collect.1
}

/// Parts whose gradient is zero by nature, of which AdamW turns the rounding into steps:
/// the keys' biases, and shifts that a batch norm takes away again.
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
    let case = case(name);
    let theirs = &case.theirs;
    let image_features = case.model.encode_image(case.images.clone());
    assert_close("image features", image_features, &theirs["image_features"]);
    let text_features = case.model.encode_text(case.tokens.clone());
    assert_close("text features", text_features, &theirs["text_features"]);
    assert_close(
        "logits",
        case.logits_per_image(),
        &theirs["logits_per_image"],
    );

    let (loss, grads, _) = case.grads(&case.model);
    assert_close("loss", loss, &theirs["loss"]);
    let expected = canonical(part(theirs, "grads/"));
    let global = expected
        .values()
        .map(|t| norm(&t.values).powi(2))
        .sum::<f64>()
        .sqrt();
    let ours = named_grads(&case.model, &grads);
    assert_eq!(ours.len(), expected.len());
    for (key, grad) in &expected {
        let size = norm(&grad.values);
        let scale = if size < NEGLIGIBLE * global {
            global
        } else {
            size
        };
        let gap = distance(&ours[key].values, &grad.values) * size.max(1e-30);
        assert!(
            gap / scale < GRADIENTS,
            "gradient of {key}: {:e}",
            gap / scale
        );
    }

    let mut optimizer = ModelOptimizer::new(&AdamWTable {
        lr: 1e-3,
        betas: [0.9, 0.98],
        eps: 1e-6,
        weight_decay: 0.2,
        no_decay: Vec::new(),
        clip_norm: Some(1.0),
    });
    let mut model = case.model.clone();
    for step in 0..3 {
        let (_, grads, statistics) = case.grads(&model);
        model = model.update_statistics(statistics);
        let (stepped, norm) = optimizer.step(model, grads, 1e-3);
        if step == 0 {
            let wanted = f64::from(theirs["grad_norm"].values[0]);
            assert!((norm - wanted).abs() < 1e-5 * wanted, "{norm} {wanted}");
        }
        model = stepped;
    }
    let after = weights::parameters(&model);
    let expected = canonical(part(theirs, "after/"));
    assert_eq!(after.len(), expected.len());
    for (key, tensor) in expected {
        let ours = without_key_bias(&key, &after[&key].values);
        let distance = distance(&ours, &without_key_bias(&key, &tensor.values));
        assert!(distance < GRADIENTS, "{key} after 3 steps: {distance:e}");
    }
}

/// open_clip's `CustomTextCLIP` puts a prefix before the text tower's names.
fn canonical(tensors: NamedTensors) -> NamedTensors {
    tensors
        .into_iter()
        .map(|(name, tensor)| (name.trim_start_matches("text.").to_string(), tensor))
        .collect()
}

#[test]
fn a_gelu_model_is_open_clips() {
    check("gelu");
}

#[test]
fn a_quickgelu_model_is_open_clips() {
    check("quickgelu");
}

#[test]
fn a_resnet_is_open_clips_in_both_modes_with_its_running_statistics() {
    check("resnet");
}

#[test]
fn a_siglip_style_model_is_open_clips() {
    check("siglip");
}

#[test]
fn attention_pooling_layer_scale_and_fixed_positions_are_open_clips() {
    check("attention-pool");
}

#[test]
fn mean_and_first_token_pooling_are_open_clips() {
    check("odd");
}
