//! The towers' operations composed of Burn's, with hand-written backward passes, for every backend and dtype
//! that has no kernel: GPUs, and half precision on the CPU. Sums and norms are in f32 at least, but for what a
//! backend adds up within one operation.

mod activation;
mod attention;
#[cfg(feature = "_cube")]
mod batch_norm;
mod branch;
#[cfg(feature = "_cube")]
mod conv;
mod half;
mod layer_norm;
mod linear;
mod product;

use burn::tensor::{DType, FloatDType, Tensor};

#[cfg(feature = "_cube")]
use crate::cube;

pub(crate) use self::activation::Gelu;
pub(crate) use self::attention::{Attention, SelfAttention};
#[cfg(feature = "_cube")]
pub(crate) use self::batch_norm::{AddRelu, BatchNorm};
pub(crate) use self::branch::AddBranch;
#[cfg(feature = "_cube")]
pub(crate) use self::conv::Conv;
pub(crate) use self::half::Half;
pub(crate) use self::layer_norm::LayerNorm;
pub(crate) use self::linear::{BiasedLinear, Linear};
pub(crate) use self::product::Product;

/// Half precision as f32; other dtypes as they are.
fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(FloatDType::F32),
        _ => x,
    }
}

/// The inverse of [`widen`].
fn narrow<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// A weight in the dtype of a product: the step's copy, where there is one.
fn narrow_weight<const D: usize>(weight: Tensor<D>, dtype: DType) -> Tensor<D> {
    #[cfg(feature = "_cube")]
    if let Some(copy) = cube::plain(&weight).and_then(|wide| cube::narrowed(&wide, dtype)) {
        return cube::tensor(copy);
    }
    narrow(weight, dtype)
}

/// `lhs rhs`, in `dtype`.
/// - lhs, rhs: of one dtype, with the same dimensions before the last two.
fn multiply<const D: usize>(lhs: Tensor<D>, rhs: Tensor<D>, dtype: DType) -> Tensor<D> {
    #[cfg(feature = "_cube")]
    if let (Some(lhs), Some(rhs)) = (cube::plain(&lhs), cube::plain(&rhs)) {
        return cube::tensor(cube::multiply(&lhs, &rhs, None, dtype));
    }
    narrow(lhs.matmul(rhs), dtype)
}

/// `lhs rhs + bias`, in the dtype of all three.
fn multiply_add(lhs: Tensor<2>, rhs: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    #[cfg(feature = "_cube")]
    if let (Some(lhs), Some(rhs)) = (cube::plain(&lhs), cube::plain(&rhs)) {
        let bias = cube::on_cube(&bias).expect("a bias is where its weight is");
        return cube::tensor(cube::multiply(&lhs, &rhs, Some(&bias), lhs.dtype));
    }
    lhs.matmul(rhs) + bias.unsqueeze()
}

/// The sum of all rows, `[rows, width]` to `[width]`, in `dtype`. A backend may give a thread to each output only, so many rows
/// are summed in two stages.
fn sum_of_rows(x: Tensor<2>, dtype: DType) -> Tensor<1> {
    const STAGE: usize = 64;
    let [rows, width] = x.dims();
    #[cfg(feature = "_cube")]
    if let Some(dense) = cube::on_cube(&x) {
        return cube::tensor(cube::sum_of_rows(&dense, width, dtype));
    }
    let stages = rows / STAGE;
    if stages < 2 {
        return narrow(widen(x.sum_dim(0)), dtype).reshape([width]);
    }
    let rest = rows - stages * STAGE;
    let first = x.clone().narrow(0, 0, stages * STAGE);
    let first = widen(first.reshape([stages, STAGE, width]).sum_dim(1));
    let mut sum = first.reshape([stages, width]).sum_dim(0);
    if rest > 0 {
        sum = sum + widen(x.narrow(0, stages * STAGE, rest).sum_dim(0));
    }
    narrow(sum, dtype).reshape([width])
}

/// A tensor of rank `D` as a matrix of its last dimension's rows.
fn rows<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    let dims = x.dims();
    let width = dims[D - 1];
    x.reshape([dims[..D - 1].iter().product(), width])
}
