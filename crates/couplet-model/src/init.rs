//! Initial values. Each parameter's draw is a pure function of the seed and its name.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::tensors::dense;

/// Makes parameters on one device. Draws are made on the host, so that every backend
/// starts from the same weights.
pub(crate) struct Initializer<'a> {
    /// `None` for a model that will be filled from a file.
    pub seed: Option<u64>,
    pub device: &'a Device,
}

impl Initializer<'_> {
    /// Every element `value`.
    pub fn constant<const D: usize>(&self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.param(shape, move || vec![value; shape.iter().product()])
    }

    /// Every element `value`, and not trained.
    pub fn buffer<const D: usize>(&self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.constant(shape, value).set_require_grad(false)
    }

    /// These values, and not trained.
    pub fn fixed<const D: usize>(
        &self,
        shape: [usize; D],
        values: impl FnOnce() -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        self.param(shape, values).set_require_grad(false)
    }

    /// N(0, `std`).
    pub fn normal<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        std: f32,
    ) -> Param<Tensor<D>> {
        let Some(mut rng) = self.rng(name) else {
            return self.constant(shape, 0.0);
        };
        self.param(shape, move || {
            let draw = |_| {
                let z: f32 = StandardNormal.sample(&mut rng);
                z * std
            };
            (0..shape.iter().product()).map(draw).collect()
        })
    }

    /// Uniform in ±`bound`.
    pub fn uniform<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        bound: f32,
    ) -> Param<Tensor<D>> {
        let Some(mut rng) = self.rng(name) else {
            return self.constant(shape, 0.0);
        };
        self.param(shape, move || {
            let draw = |_| rng.random_range(-bound..=bound);
            (0..shape.iter().product()).map(draw).collect()
        })
    }

    /// Without a seed, the values are made only when they are used: a model that is filled from a
    /// file, or whose shapes are counted, takes no memory for them.
    fn param<const D: usize>(
        &self,
        shape: [usize; D],
        values: impl FnOnce() -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        if self.seed.is_some() {
            return Param::from_tensor(dense(values(), shape, self.device));
        }
        Param::uninitialized(
            ParamId::new(),
            move |device, is_trained| dense(values(), shape, device).set_require_grad(is_trained),
            self.device.clone(),
            true,
            shape.into(),
        )
    }

    fn rng(&self, name: &str) -> Option<ChaCha8Rng> {
        Some(stream([self.seed?, fnv1a(name.as_bytes()), 0, 0]))
    }
}

/// Random numbers that are a pure function of four keys.
pub(crate) fn stream(keys: [u64; 4]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    for (bytes, key) in seed.chunks_exact_mut(8).zip(keys) {
        bytes.copy_from_slice(&key.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}

/// 64-bit FNV-1a: a hash that stays the same in every release, unlike std's.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `width^-½`, the scale of most of CLIP's initialisation rules.
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
pub(crate) fn inverse_sqrt(width: usize) -> f32 {
    (width as f32).powf(-0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_name_only() {
        let device = Device::flex();
        let values = |seed, name: &str| {
            Initializer {
                seed: Some(seed),
                device: &device,
            }
            .normal(name, [4], 1.0)
            .val()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap()
        };
        assert_eq!(values(1, "a"), values(1, "a"));
        assert_ne!(values(1, "a"), values(1, "b"));
        assert_ne!(values(1, "a"), values(2, "a"));
    }

    #[test]
    fn fnv1a_matches_its_published_vector() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
