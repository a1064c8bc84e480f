//! The small modules of both towers, in PyTorch's parameter layout.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, module};

use crate::init::Initializer;

/// `y = x Wᵀ + b` with `weight` as PyTorch keeps it, `[out, in]`.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// - x: `[…, in]`; returns `[…, out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(x, &self.weight, Some(&self.bias))
    }
}

/// `x weightᵀ + bias`.
/// - x: `[…, in]`, weight: `[out, in]`, bias: `[out]`; returns `[…, out]`.
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: &Param<Tensor<2>>,
    bias: Option<&Param<Tensor<1>>>,
) -> Tensor<D> {
    module::linear(x, weight.val().transpose(), bias.map(Param::val))
}

/// Layer normalisation over the last dimension with PyTorch's default epsilon.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
}

const LAYER_NORM_EPS: f64 = 1e-5;

impl LayerNorm {
    /// The identity: gain 1, bias 0.
    pub fn init(width: usize, init: &Initializer) -> Self {
        Self {
            weight: init.constant([width], 1.0),
            bias: init.constant([width], 0.0),
        }
    }

    /// - x: `[…, width]`; returns the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::layer_norm(x, self.weight.val(), Some(self.bias.val()), LAYER_NORM_EPS)
    }
}
