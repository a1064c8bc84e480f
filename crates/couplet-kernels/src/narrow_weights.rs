//! Half-precision copies of weights, made once for all passes of a step.
#![cfg_attr(
    not(feature = "_cube"),
    allow(unused_variables, reason = "a build that knows no GPU does nothing")
)]

use burn::tensor::{DType, Tensor};
#[cfg(feature = "_cube")]
use burn_cubecl::tensor::CubeTensor;

#[cfg(feature = "_cube")]
use crate::cube;

/// Copies that [`linear_as`](crate::linear_as) takes instead of casting its weight and bias, as long as this lives.
/// The weights cannot be updated in place until then. Only on GPUs; elsewhere it does nothing.
#[derive(Debug)]
pub struct NarrowWeights {
    dtype: DType,
    #[cfg(feature = "_cube")]
    weights: Vec<CubeTensor>,
}

impl NarrowWeights {
    /// - dtype: of the copies.
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            #[cfg(feature = "_cube")]
            weights: Vec::new(),
        }
    }

    /// Adds a weight or bias.
    pub fn add<const D: usize>(&mut self, weight: &Tensor<D>) {
        #[cfg(feature = "_cube")]
        self.weights.extend(cube::plain(&weight.clone().inner()));
    }

    /// Copies what was added.
    pub fn copy(&self) {
        #[cfg(feature = "_cube")]
        cube::narrow_all(&self.weights, self.dtype);
    }

    /// Of the copies.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

impl Drop for NarrowWeights {
    fn drop(&mut self) {
        #[cfg(feature = "_cube")]
        cube::forget(&self.weights, self.dtype);
    }
}
