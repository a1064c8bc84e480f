//! The optimiser: updates each parameter with its group's settings and keeps state under
//! open_clip's names.

mod on_device;
mod rule;
mod table;

use std::any::Any;
use std::collections::HashMap;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use couplet_kernels::{SumOfSquares, settled};
use couplet_model::weights::{HostTensor, NamedTensors};
use couplet_model::{
    BlockCount, Clip, MAX_LOGIT_SCALE, ModelSpec, ParameterMapper, ParameterVisitor,
    map_parameters, visit_parameters,
};
use globset::{Glob, GlobSet, GlobSetBuilder};

use rule::{Moments, Rule};

pub(crate) use rule::OptimizerStep;
pub use table::{OptimizerConfig, OptimizerSettings, ParamGroupConfig};

/// Updates a model's parameters. Keeps the moments of each under its open_clip name.
pub(crate) struct ModelOptimizer {
    /// The config's groups, then one for all other parameters.
    groups: Vec<Group>,
    no_decay: GlobSet,
    clip_norm: Option<f64>,
    layer_decay: f64,
    blocks: BlockCount,
    /// A `Moments<D>` per parameter, where `D` is its rank.
    moments: HashMap<String, Box<dyn Any + Send>>,
}

/// Parameters with the same settings.
struct Group {
    /// Patterns of its parameters' names; `None` matches all.
    names: Option<GlobSet>,
    /// For parameters with weight decay.
    decayed: Rule,
    /// For parameters without.
    plain: Rule,
    lr_scale: f64,
}

const FIRST_MOMENT: &str = "exp_avg";
const SECOND_MOMENT: &str = "exp_avg_sq";

impl ModelOptimizer {
    /// - spec: the model's; layer decay needs its number of layers.
    ///
    /// # Panics
    /// If `config.problems()` is not empty.
    pub fn new(config: &OptimizerConfig, spec: &ModelSpec) -> Self {
        let settings = config.settings();
        let group = |names: Option<GlobSet>, own: Option<&ParamGroupConfig>| {
            let betas = own.and_then(|own| own.betas).unwrap_or(settings.betas);
            let eps = own.and_then(|own| own.eps).or(settings.eps);
            let decay = own.and_then(|own| own.weight_decay);
            let decay = decay.unwrap_or(settings.weight_decay);
            Group {
                names,
                decayed: Rule::decayed(config, betas, eps, decay),
                plain: Rule::plain(config, betas, eps),
                lr_scale: own.and_then(|own| own.lr_scale).unwrap_or(1.0),
            }
        };
        let mut groups: Vec<Group> = (settings.group.iter())
            .map(|own| group(Some(globs(&own.params)), Some(own)))
            .collect();
        groups.push(group(None, None));
        Self {
            groups,
            no_decay: globs(&settings.no_decay),
            clip_norm: settings.clip_norm,
            layer_decay: settings.layer_decay.unwrap_or(1.0),
            blocks: BlockCount::new(spec),
            moments: HashMap::new(),
        }
    }

    /// The factor that clips gradients of global norm `norm` to `clip_norm`.
    /// Source: `torch.nn.utils.clip_grad_norm_`.
    pub fn clip_factor(&self, norm: f64) -> f64 {
        match self.clip_norm {
            Some(max) if norm > max => max / (norm + 1e-6),
            _ => 1.0,
        }
    }

    /// Updates every parameter that has a gradient, and clamps `logit_scale`.
    pub fn step(&mut self, model: Clip, grads: GradientsParams, step: OptimizerStep) -> Clip {
        let mut update = Update {
            optimizer: self,
            grads,
            step,
        };
        map_parameters(model, &mut update)
    }

    /// The moments as `<name>.exp_avg` and `<name>.exp_avg_sq`, and the number of updates of each
    /// parameter.
    pub fn save(&self, model: &Clip) -> (NamedTensors, HashMap<String, usize>) {
        let mut save = Save {
            moments: &self.moments,
            tensors: NamedTensors::new(),
            times: HashMap::new(),
        };
        visit_parameters(model, &mut save);
        (save.tensors, save.times)
    }

    /// Restores what [`Self::save`] returned.
    ///
    /// # Errors
    /// If a parameter's moments are missing or have the wrong shape; all are listed.
    pub fn load(
        &mut self,
        model: &Clip,
        tensors: NamedTensors,
        times: &HashMap<String, usize>,
    ) -> Result<(), String> {
        if times.is_empty() && tensors.is_empty() {
            // The run was stopped before its first update.
            return Ok(());
        }
        let has_second = self.groups[0].plain.has_second_moment();
        let mut load = Load {
            moments: &mut self.moments,
            has_second,
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

    fn take_moments<const D: usize>(&mut self, name: &str) -> Option<Moments<D>> {
        let moments = self.moments.remove(name)?;
        let moments = moments.downcast::<Moments<D>>();
        Some(*moments.expect("a parameter's rank never changes"))
    }

    /// The update rule of a parameter, and the factor on its learning rate.
    fn rule(&self, name: &str, rank: usize) -> (&Rule, f64) {
        let matches = |group: &&Group| {
            group
                .names
                .as_ref()
                .is_none_or(|names| names.is_match(name))
        };
        let group = (self.groups.iter().find(matches)).expect("the last group matches every name");
        let rule = if rank >= 2 && !self.no_decay.is_match(name) {
            &group.decayed
        } else {
            &group.plain
        };
        let layers = i32::try_from(self.blocks.layers_above(name)).expect("towers are not so deep");
        (rule, group.lr_scale * self.layer_decay.powi(layers))
    }
}

/// # Panics
/// If a glob is malformed, which the config's validation rejects.
fn globs(patterns: &[String]) -> GlobSet {
    let mut globs = GlobSetBuilder::new();
    for pattern in patterns {
        globs.add(Glob::new(pattern).expect("globs are checked with the config"));
    }
    globs.build().expect("globs are checked with the config")
}

struct Update<'a> {
    optimizer: &'a mut ModelOptimizer,
    grads: GradientsParams,
    step: OptimizerStep,
}

impl ParameterMapper for Update<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };
        let moments = self.optimizer.take_moments::<D>(name);
        let (rule, lr_scale) = self.optimizer.rule(name, D);
        let step = OptimizerStep {
            lr: self.step.lr * lr_scale,
            ..self.step
        };
        let mut after = None;
        let stepped = param.map(|tensor| {
            let (updated, moments) = rule.step(step, tensor.inner(), grad, moments);
            after = Some(moments);
            Tensor::from_inner(clamped(name, updated)).require_grad()
        });
        if let Some(moments) = after {
            let moments = Box::new(moments);
            self.optimizer.moments.insert(name.to_string(), moments);
        }
        stepped
    }
}

/// A parameter within its bounds.
fn clamped<const D: usize>(name: &str, parameter: Tensor<D>) -> Tensor<D> {
    if name == "logit_scale" {
        parameter.clamp(0.0, MAX_LOGIT_SCALE.ln())
    } else {
        parameter
    }
}

/// The Euclidean norm over all gradients.
pub(crate) fn global_norm(model: &Clip, grads: &GradientsParams) -> f64 {
    sum_of_squares(model, grads).total().sqrt()
}

fn sum_of_squares(model: &Clip, grads: &GradientsParams) -> SumOfSquares {
    struct Norm<'a> {
        grads: &'a GradientsParams,
        sum: SumOfSquares,
    }
    impl ParameterVisitor for Norm<'_> {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.sum.add(&grad);
            }
        }
    }
    let mut norm = Norm {
        grads,
        sum: SumOfSquares::default(),
    };
    visit_parameters(model, &mut norm);
    norm.sum
}

struct Save<'a> {
    moments: &'a HashMap<String, Box<dyn Any + Send>>,
    tensors: NamedTensors,
    times: HashMap<String, usize>,
}

impl ParameterVisitor for Save<'_> {
    fn visit<const D: usize>(&mut self, name: &str, _param: &Param<Tensor<D>>) {
        let moments = self
            .moments
            .get(name)
            .and_then(|m| m.downcast_ref::<Moments<D>>());
        let Some(moments) = moments else {
            return;
        };
        let mut put = |part: &str, tensor: &Tensor<D>| {
            let host = HostTensor::from_tensor(tensor.clone());
            self.tensors.insert(format!("{name}.{part}"), host);
        };
        put(FIRST_MOMENT, &moments.first);
        if let Some(second) = &moments.second {
            put(SECOND_MOMENT, second);
        }
        self.times.insert(name.to_string(), moments.time);
    }
}

struct Load<'a> {
    moments: &'a mut HashMap<String, Box<dyn Any + Send>>,
    has_second: bool,
    tensors: NamedTensors,
    times: &'a HashMap<String, usize>,
    device: Device,
    problems: Vec<String>,
}

impl ParameterVisitor for Load<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        // Buffers and frozen parameters have no moments.
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
            (host.shape == param.dims()).then(|| settled(host.into_tensor(&device)))
        };
        let (first, second) = (take(FIRST_MOMENT), take(SECOND_MOMENT));
        match first {
            Some(first) if second.is_some() == self.has_second => {
                let moments = Moments {
                    time: *time,
                    first,
                    second,
                };
                self.moments.insert(name.to_string(), Box::new(moments));
            }
            _ => self.problems.push(format!(
                "{name} has moments that are missing or have the wrong shape"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
