//! Matrix products.

use burn::tensor::Tensor;

use crate::composed;
use crate::graph::{compose, is_on_cpu};

/// `lhs rhs` of each pair of matrices.
/// - lhs: `[…, rows, inner]`; rhs: `[…, inner, columns]`; returns `[…, rows, columns]`.
pub fn matmul<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>) -> Tensor<D> {
    let is_alike = lhs.dtype() == rhs.dtype() && lhs.dims()[..D - 2] == rhs.dims()[..D - 2];
    // On the CPU, Burn's is the only one; tests run ours there too.
    let composed = (is_alike && (cfg!(test) || !is_on_cpu(&lhs))).then(|| {
        let operands = [lhs.clone().into_dispatch(), rhs.clone().into_dispatch()];
        compose(composed::Product::<D>, operands.each_ref())
    });
    composed.flatten().unwrap_or_else(|| lhs.matmul(rhs))
}
