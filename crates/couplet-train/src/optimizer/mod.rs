//! AdamW with weight decay by parameter, and its state under open_clip's names.

use std::any::Any;
use std::collections::HashMap;

use burn::module::Param;
use burn::optim::{
    AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer,
};
use burn::tensor::{Device, Tensor};
use couplet_model::weights::{HostTensor, NamedTensors};
use couplet_model::{
    Clip, MAX_LOGIT_SCALE, ParameterMapper, ParameterVisitor, map_parameters, visit_parameters,
};
use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

/// `kind = "adamw"`. Defaults are the paper's for its ViTs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWTable {
    /// Learning rate at its peak.
    pub lr: f64,
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled decay of every parameter with 2 or more dimensions.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Globs of open_clip names that are not decayed although they have 2 dimensions.
    #[serde(default)]
    pub no_decay: Vec<String>,
    /// The largest global gradient norm; larger gradients are scaled down to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.98]
}

fn default_eps() -> f64 {
    1e-6
}

fn default_weight_decay() -> f64 {
    0.2
}

impl AdamWTable {
    /// What is wrong with the values, each with its key.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut check = |key: &str, sound: bool, message: &str| {
            if !sound {
                problems.push((key.to_string(), message.to_string()));
            }
        };
        let positive = |v: f64| v.is_finite() && v > 0.0;
        check("lr", positive(self.lr), "must be a positive number");
        let betas = self.betas.iter().all(|beta| (0.0..1.0).contains(beta));
        check("betas", betas, "both must lie in [0, 1)");
        check("eps", positive(self.eps), "must be a positive number");
        let decay = self.weight_decay.is_finite() && self.weight_decay >= 0.0;
        check("weight_decay", decay, "must be 0 or a positive number");
        let clip = self.clip_norm.is_none_or(positive);
        check("clip_norm", clip, "must be a positive number");
        for (at, glob) in self.no_decay.iter().enumerate() {
            if let Err(error) = Glob::new(glob) {
                problems.push((format!("no_decay[{at}]"), error.to_string()));
            }
        }
        problems
    }
}

/// Steps a model's parameters; keeps the moments of each under its open_clip name.
pub(crate) struct ModelOptimizer {
    decayed: AdamW,
    plain: AdamW,
    no_decay: GlobSet,
    clip_norm: Option<f64>,
    /// Each an `AdamWState<D>` of its parameter's rank.
    states: HashMap<String, Box<dyn Any + Send>>,
}

const FIRST_MOMENT: &str = "exp_avg";
const SECOND_MOMENT: &str = "exp_avg_sq";

impl ModelOptimizer {
    /// # Panics
    /// If `table.problems()` is not empty.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "Burn's AdamW takes f32 settings"
    )]
    pub fn new(table: &AdamWTable) -> Self {
        let adamw = |weight_decay: f64| {
            AdamWConfig::new()
                .with_beta_1(table.betas[0] as f32)
                .with_beta_2(table.betas[1] as f32)
                .with_epsilon(table.eps as f32)
                .with_weight_decay(weight_decay as f32)
                .build()
        };
        let mut globs = GlobSetBuilder::new();
        for glob in &table.no_decay {
            globs.add(Glob::new(glob).expect("globs are checked with the config"));
        }
        Self {
            decayed: adamw(table.weight_decay),
            plain: adamw(0.0),
            no_decay: globs.build().expect("globs are checked with the config"),
            clip_norm: table.clip_norm,
            states: HashMap::new(),
        }
    }

    /// One update with gradients clipped to the global norm, `logit_scale` clamped.
    /// - returns the model and the global gradient norm before clipping.
    pub fn step(&mut self, model: Clip, grads: GradientsParams, lr: f64) -> (Clip, f64) {
        let norm = global_norm(&model, &grads);
        let scale = match self.clip_norm {
            // As torch.nn.utils.clip_grad_norm_ has it.
            Some(max) if norm > max => Some(max / (norm + 1e-6)),
            _ => None,
        };
        let mut update = Update {
            optimizer: self,
            grads,
            lr,
            scale,
        };
        (map_parameters(model, &mut update), norm)
    }

    /// The moments as `<name>.exp_avg` and `<name>.exp_avg_sq`, with the number of
    /// updates that each parameter has had.
    pub fn save(&self, model: &Clip) -> (NamedTensors, HashMap<String, usize>) {
        let mut save = Save {
            states: &self.states,
            tensors: NamedTensors::new(),
            times: HashMap::new(),
        };
        visit_parameters(model, &mut save);
        (save.tensors, save.times)
    }

    /// Takes up what [`Self::save`] gave.
    ///
    /// # Errors
    /// If a parameter's moments are missing or misshapen.
    pub fn load(
        &mut self,
        model: &Clip,
        tensors: NamedTensors,
        times: &HashMap<String, usize>,
    ) -> Result<(), String> {
        let mut load = Load {
            states: &mut self.states,
            tensors,
            times,
            device: model.device(),
            problems: Vec::new(),
        };
        visit_parameters(model, &mut load);
        if load.problems.is_empty() {
            Ok(())
        } else {
            Err(load.problems.join("; "))
        }
    }

    fn is_decayed(&self, name: &str, rank: usize) -> bool {
        rank >= 2 && !self.no_decay.is_match(name)
    }
}

struct Update<'a> {
    optimizer: &'a mut ModelOptimizer,
    grads: GradientsParams,
    lr: f64,
    /// The factor that clipping puts on each gradient.
    scale: Option<f64>,
}

impl ParameterMapper for Update<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };
        let grad = match self.scale {
            Some(scale) => grad.mul_scalar(scale),
            None => grad,
        };
        let state = self.optimizer.states.remove(name).map(|state| {
            *state
                .downcast::<AdamWState<D>>()
                .expect("a parameter's rank never changes")
        });
        let adamw = if self.optimizer.is_decayed(name, D) {
            &self.optimizer.decayed
        } else {
            &self.optimizer.plain
        };
        let mut state_after = None;
        let stepped = param.map(|tensor| {
            let (updated, state) = adamw.step(self.lr, tensor.inner(), grad, state);
            state_after = state;
            let updated = if name == "logit_scale" {
                updated.clamp(0.0, MAX_LOGIT_SCALE.ln())
            } else {
                updated
            };
            Tensor::from_inner(updated).require_grad()
        });
        if let Some(state) = state_after {
            self.optimizer
                .states
                .insert(name.to_string(), Box::new(state));
        }
        stepped
    }
}

/// The Euclidean norm over all gradients.
fn global_norm(model: &Clip, grads: &GradientsParams) -> f64 {
    struct Norm<'a> {
        grads: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ParameterVisitor for Norm<'_> {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                // Rows first, then the vector: a plain sum of a large tensor adds in an
                // order that depends on scheduling.
                self.sums.push(grad.square().sum_dim(D - 1).sum());
            }
        }
    }
    let mut norm = Norm {
        grads,
        sums: Vec::new(),
    };
    visit_parameters(model, &mut norm);
    if norm.sums.is_empty() {
        return 0.0;
    }
    let sums: Vec<f32> = Tensor::cat(norm.sums, 0)
        .into_data()
        .try_to_vec()
        .expect("gradients are f32");
    sums.iter().map(|sum| f64::from(*sum)).sum::<f64>().sqrt()
}

struct Save<'a> {
    states: &'a HashMap<String, Box<dyn Any + Send>>,
    tensors: NamedTensors,
    times: HashMap<String, usize>,
}

impl ParameterVisitor for Save<'_> {
    fn visit<const D: usize>(&mut self, name: &str, _param: &Param<Tensor<D>>) {
        let state = self
            .states
            .get(name)
            .and_then(|s| s.downcast_ref::<AdamWState<D>>());
        let Some(AdamWState { momentum }) = state else {
            return;
        };
        let mut put = |part: &str, tensor: &Tensor<D>| {
            let host = HostTensor::from_tensor(tensor.clone());
            self.tensors.insert(format!("{name}.{part}"), host);
        };
        put(FIRST_MOMENT, &momentum.moment_1);
        put(SECOND_MOMENT, &momentum.moment_2);
        self.times.insert(name.to_string(), momentum.time);
    }
}

struct Load<'a> {
    states: &'a mut HashMap<String, Box<dyn Any + Send>>,
    tensors: NamedTensors,
    times: &'a HashMap<String, usize>,
    device: Device,
    problems: Vec<String>,
}

impl ParameterVisitor for Load<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        // Buffers, and positions that are fixed, are never updated.
        if !param.is_require_grad() {
            return;
        }
        let Some(time) = self.times.get(name) else {
            self.problems.push(format!("{name} has no update count"));
            return;
        };
        let device = self.device.clone().without_autodiff();
        let mut take = |part: &str| -> Option<Tensor<D>> {
            let host = self.tensors.remove(&format!("{name}.{part}"))?;
            (host.shape == param.dims()).then(|| Tensor::from_data(host.into_data(), &device))
        };
        match (take(FIRST_MOMENT), take(SECOND_MOMENT)) {
            (Some(first), Some(second)) => {
                let momentum = AdaptiveMomentumState::new(*time, first, second);
                self.states
                    .insert(name.to_string(), Box::new(AdamWState::new(momentum)));
            }
            _ => self
                .problems
                .push(format!("{name} has missing or misshapen moments")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;
    use couplet_model::{l2_normalize, presets};

    fn table() -> AdamWTable {
        AdamWTable {
            lr: 1e-3,
            betas: default_betas(),
            eps: default_eps(),
            weight_decay: 0.1,
            no_decay: vec!["visual.proj".into()],
            clip_norm: Some(1.0),
        }
    }

    fn model() -> Clip {
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        Clip::init(&spec, 0, &Device::flex().autodiff())
    }

    fn grads(model: &Clip) -> GradientsParams {
        let device = model.device();
        let tokens =
            Tensor::<2, Int>::from_ints([[49_406, 320, 49_407], [49_406, 9, 49_407]], &device);
        let images = Tensor::<4>::ones([2, 3, 32, 32], &device);
        let loss = (l2_normalize(model.encode_image(images))
            * l2_normalize(model.encode_text(tokens)))
        .sum()
            * model.logit_scale.val().exp();
        GradientsParams::from_grads(loss.backward(), model)
    }

    #[test]
    fn moments_survive_a_save_bit_for_bit() {
        let mut first = ModelOptimizer::new(&table());
        let start = model();
        let start_grads = grads(&start);
        let (model, _) = first.step(start, start_grads, 1e-3);
        let (tensors, times) = first.save(&model);
        assert!(
            tensors["visual.proj.exp_avg"]
                .values
                .iter()
                .any(|v| *v != 0.0)
        );
        assert_eq!(times["logit_scale"], 1);

        let mut second = ModelOptimizer::new(&table());
        second.load(&model, tensors.clone(), &times).unwrap();
        let after = |optimizer: &mut ModelOptimizer| {
            let (model, norm) = optimizer.step(model.clone(), grads(&model), 1e-3);
            (couplet_model::weights::parameters(&model), norm.to_bits())
        };
        assert_eq!(after(&mut first), after(&mut second));

        let mut third = ModelOptimizer::new(&table());
        let mut broken = tensors;
        broken.remove("ln_final.bias.exp_avg_sq");
        let error = third.load(&model, broken, &times).unwrap_err();
        assert!(error.contains("ln_final.bias has missing"), "{error}");
    }

    #[test]
    fn decay_falls_on_matrices_that_no_glob_excludes() {
        let optimizer = ModelOptimizer::new(&table());
        assert!(optimizer.is_decayed("token_embedding.weight", 2));
        assert!(optimizer.is_decayed("visual.conv1.weight", 4));
        assert!(!optimizer.is_decayed("visual.proj", 2));
        assert!(!optimizer.is_decayed("ln_final.weight", 1));
    }

    /// The sum of all gradients' squares, in another way.
    struct Sum<'a>(&'a GradientsParams, f64);
    impl ParameterVisitor for Sum<'_> {
        fn visit<const D: usize>(&mut self, _: &str, param: &Param<Tensor<D>>) {
            let grad = self
                .0
                .get::<D>(param.id)
                .expect("every parameter has a gradient");
            for value in HostTensor::from_tensor(grad).values {
                self.1 += f64::from(value).powi(2);
            }
        }
    }

    #[test]
    fn the_norm_is_over_all_gradients() {
        let model = model();
        let grads = grads(&model);
        let mut sum = Sum(&grads, 0.0);
        visit_parameters(&model, &mut sum);
        let norm = global_norm(&model, &grads);
        assert!((norm - sum.1.sqrt()).abs() < 1e-5 * norm, "{norm}");
    }

    #[test]
    fn the_temperature_is_clamped() {
        let model = model();
        let raised = map_parameters(model, &mut Raise);
        let raised_grads = grads(&raised);
        let (model, _) = ModelOptimizer::new(&table()).step(raised, raised_grads, 1e-3);
        let scale: f32 = model.logit_scale.val().into_scalar();
        assert!((scale - MAX_LOGIT_SCALE.ln()).abs() < 1e-6, "{scale}");
    }

    /// Puts `logit_scale` above its clamp.
    struct Raise;

    impl ParameterMapper for Raise {
        fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if name != "logit_scale" {
                return param;
            }
            param.map(|tensor| Tensor::from_inner(tensor.inner().add_scalar(9.0)).require_grad())
        }
    }
}
