//! Updates parameter by parameter, with settings by group and state under open_clip's
//! names.

mod rule;
mod table;

use std::any::Any;
use std::collections::HashMap;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use couplet_model::weights::{HostTensor, NamedTensors};
use couplet_model::{
    Blocks, Clip, MAX_LOGIT_SCALE, ModelSpec, ParameterMapper, ParameterVisitor, map_parameters,
    visit_parameters,
};
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::comm::Comm;
use rule::{Moments, Rule};

pub use table::{GroupTable, OptimizerSettings, OptimizerTable};

/// Steps a model's parameters; keeps the moments of each under its open_clip name.
pub(crate) struct ModelOptimizer {
    /// Those of the config, then one for all other parameters.
    groups: Vec<Group>,
    no_decay: GlobSet,
    clip_norm: Option<f64>,
    layer_decay: f64,
    blocks: Blocks,
    /// Each a `Moments<D>` of its parameter's rank.
    moments: HashMap<String, Box<dyn Any + Send>>,
}

/// Parameters with the same settings.
struct Group {
    /// `None` for all.
    names: Option<GlobSet>,
    decayed: Rule,
    plain: Rule,
    lr_scale: f64,
}

const FIRST_MOMENT: &str = "exp_avg";
const SECOND_MOMENT: &str = "exp_avg_sq";

impl ModelOptimizer {
    /// - spec: the model's, of which layer decay counts the layers.
    ///
    /// # Panics
    /// If `table.problems()` is not empty.
    pub fn new(table: &OptimizerTable, spec: &ModelSpec) -> Self {
        let settings = table.settings();
        let group = |names: Option<GlobSet>, own: Option<&GroupTable>| {
            let betas = own.and_then(|own| own.betas).unwrap_or(settings.betas);
            let eps = own.and_then(|own| own.eps).or(settings.eps);
            let decay = own.and_then(|own| own.weight_decay);
            let decay = decay.unwrap_or(settings.weight_decay);
            Group {
                names,
                decayed: Rule::new(table, betas, eps, decay),
                plain: Rule::new(table, betas, eps, 0.0),
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
            blocks: Blocks::of(spec),
            moments: HashMap::new(),
        }
    }

    /// One update with gradients clipped to the global norm, `logit_scale` clamped.
    /// - grads: times `loss_scale`; norm: their global norm without it.
    pub fn step(
        &mut self,
        model: Clip,
        grads: GradientsParams,
        lr: f64,
        norm: f64,
        loss_scale: f64,
    ) -> Clip {
        let clipped = match self.clip_norm {
            // As torch.nn.utils.clip_grad_norm_ has it.
            Some(max) if norm > max => max / (norm + 1e-6),
            _ => 1.0,
        };
        let mut update = Update {
            optimizer: self,
            grads,
            lr,
            factor: clipped / loss_scale,
        };
        map_parameters(model, &mut update)
    }

    /// The moments as `<name>.exp_avg` and `<name>.exp_avg_sq`, with the number of
    /// updates that each parameter has had.
    pub fn save(&self, model: &Clip) -> (NamedTensors, HashMap<String, usize>) {
        let mut save = Save {
            moments: &self.moments,
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

    /// The rule of a parameter, and the factor on its learning rate.
    fn rule(&self, name: &str, rank: usize) -> (&Rule, f64) {
        let holds = |group: &&Group| {
            group
                .names
                .as_ref()
                .is_none_or(|names| names.is_match(name))
        };
        let group = (self.groups.iter().find(holds)).expect("the last group holds every name");
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
/// If a glob is malformed; they are checked with the config.
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
    lr: f64,
    /// What clipping and the loss scale put on each gradient.
    factor: f64,
}

impl ParameterMapper for Update<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };
        let grad = if self.factor == 1.0 {
            grad
        } else {
            grad.mul_scalar(self.factor)
        };
        let moments = self.optimizer.moments.remove(name).map(|moments| {
            *moments
                .downcast::<Moments<D>>()
                .expect("a parameter's rank never changes")
        });
        let (rule, lr_scale) = self.optimizer.rule(name, D);
        let lr = self.lr * lr_scale;
        let mut after = None;
        let stepped = param.map(|tensor| {
            let (updated, moments) = rule.step(lr, tensor.inner(), grad, moments);
            after = Some(moments);
            let updated = if name == "logit_scale" {
                updated.clamp(0.0, MAX_LOGIT_SCALE.ln())
            } else {
                updated
            };
            Tensor::from_inner(updated).require_grad()
        });
        if let Some(moments) = after {
            let moments = Box::new(moments);
            self.optimizer.moments.insert(name.to_string(), moments);
        }
        stepped
    }
}

/// The Euclidean norm over all gradients.
pub(crate) fn global_norm(model: &Clip, grads: &GradientsParams) -> f64 {
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

/// The sum of every rank's gradients.
pub(crate) fn exchange(model: &Clip, grads: GradientsParams, comm: &dyn Comm) -> GradientsParams {
    struct Sum<'a> {
        grads: GradientsParams,
        comm: &'a dyn Comm,
    }
    impl ParameterVisitor for Sum<'_> {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            let Some(own) = self.grads.remove::<D>(param.id) else {
                return;
            };
            let shape = own.dims();
            let len = own.shape().num_elements();
            let sum = self.comm.sum(own.reshape([len])).reshape(shape);
            self.grads.register(param.id, sum);
        }
    }
    if comm.ranks() == 1 {
        return grads;
    }
    let mut sum = Sum { grads, comm };
    visit_parameters(model, &mut sum);
    sum.grads
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
        // Buffers, and what is frozen, are never updated.
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

    fn settings() -> OptimizerSettings {
        OptimizerSettings {
            lr: 1e-3,
            betas: [0.9, 0.98],
            eps: None,
            weight_decay: 0.1,
            no_decay: vec!["visual.proj".into()],
            clip_norm: Some(1.0),
            layer_decay: None,
            group: Vec::new(),
        }
    }

    fn spec() -> ModelSpec {
        presets::find("ViT-Ti-8-32").unwrap()
    }

    fn optimizer(table: &OptimizerTable) -> ModelOptimizer {
        ModelOptimizer::new(table, &spec())
    }

    fn adamw() -> ModelOptimizer {
        optimizer(&OptimizerTable::AdamW(settings()))
    }

    fn model() -> Clip {
        Clip::init(&spec(), 0, &Device::flex().autodiff())
    }

    fn update(optimizer: &mut ModelOptimizer, model: Clip) -> (Clip, f64) {
        let grads = grads(&model);
        let norm = global_norm(&model, &grads);
        (optimizer.step(model, grads, 1e-3, norm, 1.0), norm)
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

    fn moments_survive(table: &OptimizerTable) {
        let mut first = optimizer(table);
        let (model, _) = update(&mut first, model());
        let (tensors, times) = first.save(&model);
        let moment = &tensors["visual.proj.exp_avg"];
        assert!(moment.values.iter().any(|v| *v != 0.0));
        assert_eq!(times["logit_scale"], 1);

        let mut second = optimizer(table);
        second.load(&model, tensors.clone(), &times).unwrap();
        let after = |optimizer: &mut ModelOptimizer| {
            let (model, norm) = update(optimizer, model.clone());
            (couplet_model::weights::parameters(&model), norm.to_bits())
        };
        assert_eq!(after(&mut first), after(&mut second));

        let mut third = optimizer(table);
        let mut broken = tensors;
        broken.remove("ln_final.bias.exp_avg");
        let error = third.load(&model, broken, &times).unwrap_err();
        assert!(error.contains("ln_final.bias has missing"), "{error}");
    }

    #[test]
    fn moments_survive_a_save_bit_for_bit() {
        moments_survive(&OptimizerTable::AdamW(settings()));
        moments_survive(&OptimizerTable::Lamb(settings()));
        moments_survive(&OptimizerTable::Lion(settings()));
    }

    #[test]
    fn moments_of_another_kind_are_refused() {
        let mut lion = optimizer(&OptimizerTable::Lion(settings()));
        let (model, _) = update(&mut lion, model());
        let (tensors, times) = lion.save(&model);
        assert!(adamw().load(&model, tensors, &times).is_err());
    }

    /// How far each parameter moved at most.
    fn moved(table: &OptimizerTable) -> impl Fn(&str) -> f32 {
        let before = couplet_model::weights::parameters(&model());
        let (after, _) = update(&mut optimizer(table), model());
        let after = couplet_model::weights::parameters(&after);
        move |name| {
            let pairs = before[name].values.iter().zip(&after[name].values);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        }
    }

    #[test]
    fn decay_falls_on_matrices_that_no_glob_excludes() {
        // Token 7 is in no caption: its gradient is 0, and decay all that moves it.
        let row = |weights: &NamedTensors| weights["token_embedding.weight"].values[7 * 48];
        let before = row(&couplet_model::weights::parameters(&model()));
        let after = |table: &OptimizerTable| {
            let (after, _) = update(&mut optimizer(table), model());
            row(&couplet_model::weights::parameters(&after))
        };
        let decayed = after(&OptimizerTable::AdamW(settings()));
        assert!((decayed / before - (1.0 - 1e-3 * 0.1)).abs() < 1e-6);
        let spared = after(&OptimizerTable::AdamW(OptimizerSettings {
            no_decay: vec!["token_*".into()],
            ..settings()
        }));
        assert_eq!(spared, before);
    }

    #[test]
    fn groups_and_depth_scale_the_rate() {
        let table = OptimizerTable::AdamW(OptimizerSettings {
            weight_decay: 0.0,
            layer_decay: Some(0.5),
            group: vec![GroupTable {
                params: vec!["text_projection".into()],
                lr_scale: Some(0.1),
                betas: None,
                eps: None,
                weight_decay: None,
            }],
            ..settings()
        });
        let moved = moved(&table);
        let close = |name: &str, rate: f32| {
            let moved = moved(name);
            assert!((moved / rate - 1.0).abs() < 0.05, "{name}: {moved:e}");
        };
        // The first step of AdamW is as long as the rate, wherever a gradient is large.
        close("visual.proj", 1e-3);
        close("text_projection", 1e-4);
        let last = spec().text.layers - 1;
        close(&format!("transformer.resblocks.{last}.ln_1.weight"), 0.5e-3);
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
        let raised = map_parameters(model(), &mut Raise);
        let (model, _) = update(&mut adamw(), raised);
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
