//! The draws of linear layers: a tower's own normal ones, or PyTorch's defaults.

use burn::module::Param;
use burn::tensor::Tensor;

use crate::init::Initializer;

/// Standard deviations of the normal draws of a tower that does not use PyTorch's defaults.
pub(crate) struct BlockStd {
    pub attn_in: f32,
    pub residual_out: f32,
    pub mlp_in: f32,
    /// Whether the MLPs' biases start at zero, not at PyTorch's uniform draws.
    pub zero_biases: bool,
}

/// Draws of N(0, std), or PyTorch's own, uniform in ±bound.
pub(crate) fn weight<const D: usize>(
    name: &str,
    shape: [usize; D],
    std: Option<f32>,
    bound: f32,
    init: &Initializer,
) -> Param<Tensor<D>> {
    match std {
        Some(std) => init.normal(name, shape, std),
        None => init.uniform(name, shape, bound),
    }
}
