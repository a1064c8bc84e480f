//! The product of a linear layer.

use burn::tensor::Tensor;

use crate::precision::Precision;

/// `x weightᵀ + bias`, in the dtype of `precision`.
/// - x: `[…, in]`, weight: `[out, in]`, bias: `[out]`; returns `[…, out]`.
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<D> {
    let dtype = precision.of_products(&x);
    couplet_kernels::linear_as(x, weight, bias, dtype)
}
