//! Activations that read and write once.

use std::f32::consts::{FRAC_1_SQRT_2, TAU};

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, assert_countable, elem, empty, grid, vector_size};
use crate::math::QUICK;

/// Φ(x), the standard normal distribution.
#[cube]
fn below<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let erf = Vector::erf(x * Vector::new(FRAC_1_SQRT_2));
    (erf + Vector::new(1.0f32)) * Vector::new(0.5f32)
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (one + Vector::exp(Vector::new(0.0f32) - x))
}

#[cube(launch)]
fn forward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    output: &mut [Vector<F, N>],
    #[comptime] is_quick: bool,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS as usize;
    if at < output.len() {
        let x = Vector::<f32, N>::cast_from(x[at]);
        let gate = if comptime!(is_quick) {
            sigmoid(x * Vector::new(QUICK))
        } else {
            below(x)
        };
        output[at] = Vector::cast_from(x * gate);
    }
}

#[cube(launch)]
fn backward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    output: &mut [Vector<F, N>],
    #[comptime] is_quick: bool,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS as usize;
    if at < output.len() {
        let x = Vector::<f32, N>::cast_from(x[at]);
        let slope = if comptime!(is_quick) {
            let gate = sigmoid(x * Vector::new(QUICK));
            gate + x * Vector::new(QUICK) * gate * (Vector::new(1.0f32) - gate)
        } else {
            let density = Vector::exp(x * x * Vector::new(-0.5f32));
            below(x) + x * density * Vector::new(comptime!(TAU.sqrt().recip()))
        };
        output[at] = Vector::cast_from(Vector::<f32, N>::cast_from(gradient[at]) * slope);
    }
}

/// - x: contiguous.
/// - is_quick: `x * sigmoid(1.702 x)` instead of the exact GELU.
pub(crate) fn gelu(x: &CubeTensor, is_quick: bool) -> CubeTensor {
    let (output, grid, cube, size) = plan(x);
    forward::launch(
        &x.client,
        grid,
        cube,
        size,
        x.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        is_quick,
        elem(x.dtype),
    );
    output
}

/// The gradient of x.
/// - gradient: of the output; both contiguous and of one dtype.
pub(crate) fn gelu_gradient(x: &CubeTensor, gradient: &CubeTensor, is_quick: bool) -> CubeTensor {
    let (output, grid, cube, size) = plan(x);
    backward::launch(
        &x.client,
        grid,
        cube,
        size,
        x.clone().into_buffer_arg(),
        gradient.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        is_quick,
        elem(x.dtype),
    );
    output
}

/// Memory like that of x, a unit for each of its vectors, and their size.
fn plan(x: &CubeTensor) -> (CubeTensor, CubeCount, CubeDim, usize) {
    let (shape, len) = (x.meta.shape().clone(), x.meta.num_elements());
    let size = vector_size(&x.client, &[x.dtype], len);
    assert_countable(len / size);
    let grid = grid((len / size).div_ceil(UNITS as usize));
    (empty(x, shape, x.dtype), grid, CubeDim::new_1d(UNITS), size)
}
