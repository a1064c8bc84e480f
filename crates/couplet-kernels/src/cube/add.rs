//! Sums of two dtypes, and rectified sums.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, assert_countable, elem, empty, grid, vector_size};

#[cube(launch)]
fn sum<X: Float, Y: Float, N: Size>(
    x: &[Vector<X, N>],
    y: &[Vector<Y, N>],
    output: &mut [Vector<X, N>],
    #[comptime] rectify: bool,
    #[define(X, Y)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS as usize;
    if at < output.len() {
        let mut sum = Vector::<f32, N>::cast_from(x[at]) + Vector::cast_from(y[at]);
        if comptime!(rectify) {
            sum = max(sum, Vector::new(0.0f32));
        }
        output[at] = Vector::cast_from(sum);
    }
}

/// The gradient where a rectified sum is above zero, else 0.
#[cube(launch)]
fn kept<S: Float, G: Float, N: Size>(
    sum: &[Vector<S, N>],
    gradient: &[Vector<G, N>],
    output: &mut [Vector<G, N>],
    #[define(S, G)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS as usize;
    if at < output.len() {
        let sum = Vector::<f32, N>::cast_from(sum[at]);
        let mut own = gradient[at];
        #[unroll]
        for part in 0..N::value() {
            let value = select(sum.extract(part) > 0.0f32, own.extract(part), G::new(0.0));
            own.insert(part, value);
        }
        output[at] = own;
    }
}

/// The gradient of both sides of a rectified sum.
/// - sum: rectified; gradient: of it; both contiguous and of one shape.
pub(crate) fn rectified_gradient(sum: &CubeTensor, gradient: &CubeTensor) -> CubeTensor {
    let (shape, len) = (gradient.meta.shape().clone(), gradient.meta.num_elements());
    assert_eq!(*sum.meta.shape(), shape, "a gradient has its sum's shape");
    let output = empty(gradient, shape, gradient.dtype);
    let size = vector_size(&sum.client, &[sum.dtype, gradient.dtype], len);
    assert_countable(len / size);
    kept::launch(
        &sum.client,
        grid((len / size).div_ceil(UNITS as usize)),
        CubeDim::new_1d(UNITS),
        size,
        sum.clone().into_buffer_arg(),
        gradient.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        [elem(sum.dtype), elem(gradient.dtype)],
    );
    output
}

/// `x + y`, in the dtype of x.
/// - x, y: contiguous and of one shape; rectify: whether a ReLU follows.
pub(crate) fn add(x: &CubeTensor, y: &CubeTensor, rectify: bool) -> CubeTensor {
    assert_eq!(
        x.meta.shape(),
        y.meta.shape(),
        "a branch has the shape of what it is added to"
    );
    let (output, len) = (
        empty(x, x.meta.shape().clone(), x.dtype),
        x.meta.num_elements(),
    );
    let size = vector_size(&x.client, &[x.dtype, y.dtype], len);
    assert_countable(len / size);
    sum::launch(
        &x.client,
        grid((len / size).div_ceil(UNITS as usize)),
        CubeDim::new_1d(UNITS),
        size,
        x.clone().into_buffer_arg(),
        y.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        rectify,
        [elem(x.dtype), elem(y.dtype)],
    );
    output
}
