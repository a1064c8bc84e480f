//! Sums of two dtypes.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, assert_countable, elem, empty, grid, vector_size};

#[cube(launch)]
fn sum<X: Float, Y: Float, N: Size>(
    x: &[Vector<X, N>],
    y: &[Vector<Y, N>],
    output: &mut [Vector<X, N>],
    #[define(X, Y)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS as usize;
    if at < output.len() {
        let sum = Vector::<f32, N>::cast_from(x[at]) + Vector::cast_from(y[at]);
        output[at] = Vector::cast_from(sum);
    }
}

/// `x + y`, in the dtype of x.
/// - x, y: contiguous and of one shape.
pub(crate) fn add(x: &CubeTensor, y: &CubeTensor) -> CubeTensor {
    assert_eq!(
        x.meta.shape(),
        y.meta.shape(),
        "a branch has the shape of what it is added to"
    );
    let (output, len) = (
        empty(x, x.meta.shape().clone(), x.dtype),
        x.meta.num_elements(),
    );
    let size = vector_size(len);
    assert_countable(len / size);
    sum::launch(
        &x.client,
        grid((len / size).div_ceil(UNITS as usize)),
        CubeDim::new_1d(UNITS),
        size,
        x.clone().into_buffer_arg(),
        y.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        [elem(x.dtype), elem(y.dtype)],
    );
    output
}
