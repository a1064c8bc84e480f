//! An exponential moving average of the weights.

use std::any::Any;
use std::collections::HashMap;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use couplet_model::{Clip, ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[ema]`: an exponential moving average of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// Weight of the previous average at each step, above 0 and below 1. The first steps use
    /// the smaller `(1 + step) / (10 + step)`, so that the initial weights are soon forgotten.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub decay: f64,
}

impl EmaConfig {
    /// The decay of update `step`, counted from 0.
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
    fn decay_at(self, step: u64) -> f64 {
        self.decay.min((1 + step) as f64 / (10 + step) as f64)
    }
}

/// The average of a model's weights in f32, batch-norm statistics included.
pub(crate) struct Ema {
    table: EmaConfig,
    /// `None` only while it is being replaced.
    model: Option<Clip>,
}

impl Ema {
    /// - model: where the average starts, without autodiff.
    pub fn new(table: EmaConfig, model: Clip) -> Self {
        Self {
            table,
            model: Some(model),
        }
    }

    /// The averaged model, without autodiff.
    pub fn model(&self) -> &Clip {
        self.model.as_ref().expect("there is an average")
    }

    /// The average with a changed model in its place.
    pub fn map(self, change: impl FnOnce(Clip) -> Clip) -> Self {
        let model = self.model.map(change);
        Self { model, ..self }
    }

    /// The average with another model in its place.
    pub fn try_map<E>(self, change: impl FnOnce(Clip) -> Result<Clip, E>) -> Result<Self, E> {
        let model = self.model.map(change).transpose()?;
        Ok(Self { model, ..self })
    }

    /// Takes up the weights of `model` after update `step`, counted from 0.
    pub fn update(&mut self, model: &Clip, step: u64) {
        let mut collect = Collect(HashMap::new());
        visit_parameters(&model.valid(), &mut collect);
        let mut blend = Blend {
            new: collect.0,
            decay: self.table.decay_at(step),
        };
        let old = self.model.take().expect("there is an average");
        self.model = Some(map_parameters(old, &mut blend));
    }
}

/// Tensors by name, each a `Tensor<D>` of its parameter's rank.
struct Collect(HashMap<String, Box<dyn Any>>);

impl ParameterVisitor for Collect {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        self.0.insert(name.to_string(), Box::new(param.val()));
    }
}

struct Blend {
    new: HashMap<String, Box<dyn Any>>,
    decay: f64,
}

impl ParameterMapper for Blend {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new = self.new.remove(name).and_then(|new| new.downcast().ok());
        let new: Tensor<D> = *new.expect("the average has the model's parameters");
        // Not the sum of two shares, which in f32 are not quite 1: what stays the same would
        // shrink with every step.
        param.map(|old| old.clone() + (new - old).mul_scalar(1.0 - self.decay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use couplet_model::{presets, weights};

    #[test]
    fn the_average_follows_weights_and_statistics() {
        let device = Device::flex();
        let mut spec = presets::find("RN50").unwrap();
        let couplet_model::ImageTowerSpec::ResNet(resnet) = &mut spec.image else {
            panic!("a ResNet");
        };
        (resnet.layers, resnet.width, resnet.image_size) = ([1; 4], 8, 32);
        resnet.heads = 4;
        (spec.text.width, spec.text.heads, spec.text.layers) = (16, 2, 1);
        spec.text.vocab_size = 64;
        let [first, second] = [0, 1].map(|seed| Clip::init(&spec, seed, &device));
        let mut ema = Ema::new(EmaConfig { decay: 0.75 }, first.clone());
        // Behind step 26 the warm-up's (1 + 26) / (10 + 26) is 0.75 as well.
        ema.update(&second, 100);
        let [a, b, blended] = [&first, &second, ema.model()].map(weights::parameters);
        assert!(blended.contains_key("visual.bn1.running_mean"));
        for (name, tensor) in blended {
            let pairs = a[&name].values.iter().zip(&b[&name].values);
            for (value, (a, b)) in tensor.values.iter().zip(pairs) {
                assert!((value - (0.75 * a + 0.25 * b)).abs() < 1e-6, "{name}");
            }
        }
    }

    #[test]
    fn what_stays_the_same_is_its_own_average() {
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        let model = Clip::init(&spec, 0, &Device::flex());
        let mut ema = Ema::new(EmaConfig { decay: 0.99999 }, model.clone());
        for step in 1_000_000..1_000_200 {
            ema.update(&model, step);
        }
        assert_eq!(
            weights::parameters(ema.model()),
            weights::parameters(&model)
        );
    }

    #[test]
    fn the_first_steps_forget_faster() {
        let table = EmaConfig { decay: 0.99 };
        assert!((table.decay_at(0) - 0.1).abs() < 1e-12);
        assert!((table.decay_at(10) - 0.55).abs() < 1e-12);
        assert_eq!(table.decay_at(100_000), 0.99);
    }
}
