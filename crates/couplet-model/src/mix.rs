//! Models whose weights are weighted sums of other models'.

use std::path::Path;

use crate::clip::Clip;
use crate::weights::{fill, parameters};

impl Clip {
    /// A model on this one's device whose parameters and statistics are `weight * self` and those of the others, each
    /// times its weight, summed in f64. Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
    ///
    /// # Panics
    /// If the models have different architectures.
    #[must_use]
    pub fn mixed(&self, weight: f64, others: &[(&Clip, f64)]) -> Self {
        let mut sums = parameters(self);
        let mut wide: Vec<Vec<f64>> = (sums.values())
            .map(|tensor| scaled(&tensor.values, weight).collect())
            .collect();
        for (model, weight) in others {
            let tensors = parameters(model);
            assert!(tensors.keys().eq(sums.keys()), "models of one architecture");
            for (sum, tensor) in wide.iter_mut().zip(tensors.values()) {
                assert_eq!(sum.len(), tensor.values.len(), "models of one architecture");
                for (sum, term) in sum.iter_mut().zip(scaled(&tensor.values, *weight)) {
                    *sum += term;
                }
            }
        }
        for (tensor, wide) in sums.values_mut().zip(wide) {
            for (value, sum) in tensor.values.iter_mut().zip(wide) {
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                {
                    *value = sum as f32;
                }
            }
        }
        let filled = fill(self.clone(), sums, Path::new("a mix"));
        filled.expect("the sums have the names and shapes of the model")
    }
}

fn scaled(values: &[f32], weight: f64) -> impl Iterator<Item = f64> {
    values.iter().map(move |value| weight * f64::from(*value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;
    use burn::tensor::Device;

    #[test]
    fn a_mix_is_the_weighted_sum_of_every_tensor() {
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        let models = [0, 1, 2].map(|seed| Clip::init(&spec, seed, &Device::flex()));
        let [a, b, c] = &models;
        let mixed = parameters(&a.mixed(0.5, &[(b, 0.75), (c, -0.25)]));
        let [a, b, c] = [a, b, c].map(parameters);
        for (name, tensor) in &mixed {
            for (at, value) in tensor.values.iter().enumerate() {
                let wide = |model: &crate::weights::NamedTensors| f64::from(model[name].values[at]);
                let wanted = 0.5 * wide(&a) + 0.75 * wide(&b) - 0.25 * wide(&c);
                assert!(
                    (f64::from(*value) - wanted).abs() <= 1e-7 * wanted.abs().max(1e-3),
                    "{name}"
                );
            }
        }
        assert_eq!(parameters(&models[0].mixed(1.0, &[(&models[1], 0.0)])), a);
    }
}
