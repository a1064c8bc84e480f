//! A model with a batch and the reference's results for it, and the distances of ours from them.

use std::path::Path;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use couplet_loss::{Features, Loss, SigmoidLoss};
use couplet_model::weights::{self, HostTensor, NamedTensors};
use couplet_model::{
    BatchStatistics, Clip, ForwardContext, ModelSpec, ParameterMapper, ParameterVisitor,
    l2_normalize, map_parameters, visit_parameters,
};

use crate::optimizer::{
    ModelOptimizer, OptimizerConfig, OptimizerSettings, OptimizerStep, global_norm,
};

/// Share of the global norm below which a gradient is compared relative to that norm.
const NEGLIGIBLE: f64 = 1e-6;
/// These models draw nothing at random.
const PASS: ForwardContext = ForwardContext {
    seed: 0,
    step: 0,
    first_row: 0,
};
fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// ‖ours − theirs‖ / ‖theirs‖
pub(super) fn distance(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let gap: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    norm(&gap) / norm(theirs).max(1e-30)
}

pub(super) struct Case {
    pub(super) spec: ModelSpec,
    pub(super) model: Clip,
    images: Tensor<4>,
    tokens: Tensor<2, Int>,
    loss: Loss,
    /// open_clip's features, logits, loss and gradient norm.
    theirs: NamedTensors,
}

impl Case {
    /// - folder: an open_clip folder.
    /// - theirs: the batch, `images` and `texts`, and open_clip's results for it.
    pub(super) fn open(folder: &Path, theirs: NamedTensors) -> Self {
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
    pub(super) fn in_f64(mut self) -> Self {
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
    pub(super) fn forward_gaps(&self) -> Vec<Gap> {
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
    pub(super) fn gradient_gaps(&self, expected: &NamedTensors) -> (Gap, Vec<Gap>) {
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
    pub(super) fn step_gaps(&self, expected: impl FnOnce() -> NamedTensors) -> (Gap, Vec<Gap>) {
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
pub(super) struct Gap {
    what: String,
    pub(super) distance: f64,
}

impl Gap {
    pub(super) fn assert_below(&self, most: f64, name: &str) {
        let Self { what, distance } = self;
        assert!(*distance < most, "{name}, {what}: {distance:e}");
    }
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
