//! Residual branches.

use burn::tensor::Tensor;

use crate::composed;
use crate::graph::{compose, is_supported};

/// `x + branch`, in the dtype of `x`, which is at least as wide.
/// - x, branch: of one shape, which is returned.
pub fn add_branch<const D: usize>(x: Tensor<D>, branch: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    let is_plain = branch.dtype() == dtype;
    if is_plain && is_supported(&x) {
        return x + branch;
    }
    let inputs = [x.clone().into_dispatch(), branch.clone().into_dispatch()];
    let composed = compose(composed::AddBranch::<D>, inputs.each_ref());
    composed.unwrap_or_else(|| x + if is_plain { branch } else { branch.cast(dtype) })
}
