//! Layer norms.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::sums::{Scaled, sums_of_scaled};
use super::{Rows, elem, empty, sum_of_lanes, sum_of_vector, vector_size};

/// A layer norm's output, and each row's mean and inverse standard deviation, `[rows]` in f32.
pub(crate) struct Normalized {
    pub output: CubeTensor,
    pub mean: CubeTensor,
    pub inverse: CubeTensor,
}

#[cube(launch)]
fn forward<X: Float, P: Float, O: Float, N: Size>(
    x: &[Vector<X, N>],
    gain: &[Vector<P, N>],
    bias: &[Vector<P, N>],
    output: &mut [Vector<O, N>],
    mean: &mut [f32],
    inverse: &mut [f32],
    rows: usize,
    eps: f32,
    #[comptime] vectors: usize,
    #[comptime] lanes: u32,
    #[comptime] are_planes: bool,
    #[comptime] shared: usize,
    #[define(X, P, O)] _dtypes: [ElemType; 3],
) {
    let mut shared = Shared::<[f32]>::new_slice(shared);
    let own = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    // All units reach every barrier.
    let row = select(own < rows, own, rows - 1);
    let (lane, start) = (UNIT_POS_X as usize, row * vectors);
    let width = comptime!(vectors as f32) * f32::cast_from(N::value() as u32);

    let mut sum = Vector::<f32, N>::new(0.0f32);
    for at in range_stepped(lane, vectors, lanes as usize) {
        sum += Vector::cast_from(x[start + at]);
    }
    let center = sum_of_lanes(sum_of_vector(sum), &mut shared, lanes, are_planes) / width;
    let mut squares = Vector::<f32, N>::new(0.0f32);
    for at in range_stepped(lane, vectors, lanes as usize) {
        let centered = Vector::<f32, N>::cast_from(x[start + at]) - Vector::new(center);
        squares += centered * centered;
    }
    let variance = sum_of_lanes(sum_of_vector(squares), &mut shared, lanes, are_planes) / width;
    let scale = 1.0f32 / f32::sqrt(variance + eps);
    if own < rows {
        for at in range_stepped(lane, vectors, lanes as usize) {
            let centered = Vector::<f32, N>::cast_from(x[start + at]) - Vector::new(center);
            let scaled = centered * Vector::new(scale) * Vector::cast_from(gain[at]);
            output[start + at] = Vector::cast_from(scaled + Vector::cast_from(bias[at]));
        }
        if lane == 0 {
            mean[row] = center;
            inverse[row] = scale;
        }
    }
}

#[cube(launch)]
fn backward<X: Float, P: Float, G: Float, N: Size>(
    x: &[Vector<X, N>],
    mean: &[f32],
    inverse: &[f32],
    gain: &[Vector<P, N>],
    gradient: &[Vector<G, N>],
    onto: &[Vector<X, N>],
    of_x: &mut [Vector<X, N>],
    rows: usize,
    #[comptime] is_onto: bool,
    #[comptime] vectors: usize,
    #[comptime] lanes: u32,
    #[comptime] are_planes: bool,
    #[comptime] shared: usize,
    #[define(X, P, G)] _dtypes: [ElemType; 3],
) {
    let mut shared = Shared::<[f32]>::new_slice(shared);
    let own = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let row = select(own < rows, own, rows - 1);
    let (lane, start) = (UNIT_POS_X as usize, row * vectors);
    let width = comptime!(vectors as f32) * f32::cast_from(N::value() as u32);
    let (center, scale) = (
        Vector::<f32, N>::new(mean[row]),
        Vector::<f32, N>::new(inverse[row]),
    );

    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut along = Vector::<f32, N>::new(0.0f32);
    for at in range_stepped(lane, vectors, lanes as usize) {
        let scaled =
            Vector::<f32, N>::cast_from(gradient[start + at]) * Vector::cast_from(gain[at]);
        let normalized = (Vector::<f32, N>::cast_from(x[start + at]) - center) * scale;
        sum += scaled;
        along += scaled * normalized;
    }
    let sum = sum_of_lanes(sum_of_vector(sum), &mut shared, lanes, are_planes) / width;
    let along = sum_of_lanes(sum_of_vector(along), &mut shared, lanes, are_planes) / width;
    if own < rows {
        for at in range_stepped(lane, vectors, lanes as usize) {
            let scaled =
                Vector::<f32, N>::cast_from(gradient[start + at]) * Vector::cast_from(gain[at]);
            let normalized = (Vector::<f32, N>::cast_from(x[start + at]) - center) * scale;
            let mut own = (scaled - Vector::new(sum) - normalized * Vector::new(along)) * scale;
            if comptime!(is_onto) {
                own += Vector::cast_from(onto[start + at]);
            }
            of_x[start + at] = Vector::cast_from(own);
        }
    }
}

/// - x: contiguous rows; gain and bias: of one dtype.
/// - dtype: of the output.
pub(crate) fn layer_norm(
    x: &CubeTensor,
    gain: &CubeTensor,
    bias: CubeTensor,
    eps: f64,
    dtype: DType,
) -> Normalized {
    let shape = x.meta.shape().clone();
    let width = *shape.last().expect("a row");
    let rows = shape.iter().product::<usize>() / width;
    let size = vector_size(&x.client, &[x.dtype, dtype], width);
    let plan = Rows::new(&x.client);
    let output = empty(x, shape, dtype);
    let [mean, inverse] = [(); 2].map(|()| empty(x, [rows], DType::F32));
    forward::launch(
        &x.client,
        plan.grid(rows, width / size),
        plan.cube(),
        size,
        x.clone().into_buffer_arg(),
        gain.clone().into_buffer_arg(),
        bias.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        mean.clone().into_buffer_arg(),
        inverse.clone().into_buffer_arg(),
        rows,
        eps as f32,
        width / size,
        plan.lanes,
        plan.are_planes,
        plan.shared(),
        [elem(x.dtype), elem(gain.dtype), elem(dtype)],
    );
    Normalized {
        output,
        mean,
        inverse,
    }
}

/// The gradients of x, in its dtype, and of gain and bias, in f32 and one below the other: `[2, width]`.
/// - gradient: of the output, contiguous; onto: added to that of x, likewise, in its dtype.
pub(crate) fn layer_norm_gradients(
    x: &CubeTensor,
    [mean, inverse]: [&CubeTensor; 2],
    gain: &CubeTensor,
    gradient: &CubeTensor,
    onto: Option<&CubeTensor>,
    [wants_x, wants_gain]: [bool; 2],
) -> (Option<CubeTensor>, Option<CubeTensor>) {
    let shape = x.meta.shape().clone();
    let width = *shape.last().expect("a row");
    let rows = shape.iter().product::<usize>() / width;
    let size = vector_size(&x.client, &[x.dtype, gradient.dtype], width);
    let plan = Rows::new(&x.client);
    let alike = |onto: &CubeTensor| onto.dtype == x.dtype && onto.meta.shape() == x.meta.shape();
    assert!(
        onto.is_none_or(alike),
        "what is added to a gradient is like it"
    );
    let of_x = wants_x.then(|| {
        let of_x = empty(x, shape, x.dtype);
        backward::launch(
            &x.client,
            plan.grid(rows, width / size),
            plan.cube(),
            size,
            x.clone().into_buffer_arg(),
            mean.clone().into_buffer_arg(),
            inverse.clone().into_buffer_arg(),
            gain.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            onto.unwrap_or(x).clone().into_buffer_arg(),
            of_x.clone().into_buffer_arg(),
            rows,
            onto.is_some(),
            width / size,
            plan.lanes,
            plan.are_planes,
            plan.shared(),
            [elem(x.dtype), elem(gain.dtype), elem(gradient.dtype)],
        );
        of_x
    });
    let of_gain = wants_gain.then(|| {
        let norm = Scaled { x, mean, inverse };
        sums_of_scaled(gradient, width, norm)
    });
    (of_x, of_gain)
}
