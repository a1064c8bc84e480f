//! Features, loss, gradients and AdamW steps against open_clip_torch 3.3.0.
//! The fixture is made by `tests/fixtures/make_parity.py`.

use std::path::Path;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use couplet_loss::Loss;
use couplet_model::weights::{self, HostTensor, NamedTensors};
use couplet_model::{
    Activation, Clip, ImageTowerSpec, ModelSpec, ParameterVisitor, TextTowerSpec, VitSpec,
    l2_normalize, visit_parameters,
};

use crate::AdamWTable;
use crate::optimizer::ModelOptimizer;

const FEATURES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;
/// Of the global norm: below it a gradient is compared absolutely.
const NEGLIGIBLE: f64 = 1e-6;

fn spec(activation: Activation) -> ModelSpec {
    ModelSpec {
        embed_dim: 12,
        activation,
        init_logit_scale: 0.0,
        image: ImageTowerSpec::Vit(VitSpec {
            image_size: 12,
            patch_size: 4,
            width: 24,
            layers: 2,
            heads: 3,
            mlp_ratio: 4.0,
        }),
        text: TextTowerSpec {
            context_length: 10,
            vocab_size: 60,
            width: 16,
            layers: 2,
            heads: 2,
            mlp_ratio: 4.0,
        },
    }
}

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
}

fn case(name: &str, activation: Activation) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fixture = weights::read(&folder.join("parity.safetensors")).unwrap();
    let theirs = part(&fixture, &format!("{name}/"));
    let device = Device::flex().autodiff();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("w.safetensors");
    weights::save(&path, &part(&theirs, "weights/")).unwrap();
    let model = weights::load(&path, Clip::init(&spec(activation), 0, &device)).unwrap();
    let images = Tensor::from_data(theirs["images"].clone().into_data(), &device);
    let texts: Vec<i32> = (theirs["texts"].values.iter())
        .map(|id| format!("{id}").parse().unwrap())
        .collect();
    let tokens = Tensor::from_data(TensorData::new(texts, [6, 10]), &device);
    Case {
        model,
        images,
        tokens,
        theirs,
    }
}

impl Case {
    fn grads(&self, model: &Clip) -> (Tensor<1>, GradientsParams) {
        let loss = Loss::default().forward(
            l2_normalize(model.encode_image(self.images.clone())),
            l2_normalize(model.encode_text(self.tokens.clone())),
            model.logit_scale.val(),
        );
        let grads = GradientsParams::from_grads(loss.backward(), model);
        (loss, grads)
    }
}

/// Every parameter's gradient under its open_clip name.
fn named_grads(model: &Clip, grads: &GradientsParams) -> NamedTensors {
    struct Collect<'a>(&'a GradientsParams, NamedTensors);
    impl ParameterVisitor for Collect<'_> {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
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

/// The keys' share of a packed input projection's bias has a gradient of zero by nature:
/// AdamW turns its rounding into steps.
fn without_key_bias(name: &str, values: &[f32]) -> Vec<f32> {
    if !name.ends_with("in_proj_bias") {
        return values.to_vec();
    }
    let width = values.len() / 3;
    [&values[..width], &values[2 * width..]].concat()
}

fn check(name: &str, activation: Activation) {
    let case = case(name, activation);
    let theirs = &case.theirs;
    let image_features = case.model.encode_image(case.images.clone());
    assert_close("image features", image_features, &theirs["image_features"]);
    let text_features = case.model.encode_text(case.tokens.clone());
    assert_close("text features", text_features, &theirs["text_features"]);

    let (loss, grads) = case.grads(&case.model);
    assert_close("loss", loss, &theirs["loss"]);
    let expected = part(theirs, "grads/");
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
        let (_, grads) = case.grads(&model);
        let (stepped, norm) = optimizer.step(model, grads, 1e-3);
        if step == 0 {
            let wanted = f64::from(theirs["grad_norm"].values[0]);
            assert!((norm - wanted).abs() < 1e-5 * wanted, "{norm} {wanted}");
        }
        model = stepped;
    }
    let after = weights::parameters(&model);
    for (key, tensor) in part(theirs, "after/") {
        let ours = without_key_bias(&key, &after[&key].values);
        let distance = distance(&ours, &without_key_bias(&key, &tensor.values));
        assert!(distance < GRADIENTS, "{key} after 3 steps: {distance:e}");
    }
}

#[test]
fn a_gelu_model_is_open_clips() {
    check("gelu", Activation::Gelu);
}

#[test]
fn a_quickgelu_model_is_open_clips() {
    check("quickgelu", Activation::QuickGelu);
}
