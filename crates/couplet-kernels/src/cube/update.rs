//! The gradient norm and AdamW's update of many tensors at once.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::shares::{Shares, VECTORS, cubes, most_tensors};
use super::{UNITS, empty, grid, sum_of_lanes, sum_of_vector, vector_size};
use crate::adamw_numbers::Numbers;

#[cube(launch)]
fn squares<N: Size>(
    tensors: &Sequence<Box<[Vector<f32, N>]>>,
    ends: &Sequence<u32>,
    lens: &Sequence<u32>,
    sums: &mut [f32],
    first_sum: u32,
    #[comptime] count: usize,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let cube = CUBE_POS as u32;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut begin = 0u32;
    #[unroll]
    for at in 0..count {
        let end = ends[at];
        if cube >= begin && cube < end {
            let values = &tensors[at];
            let first = (cube - begin) as usize * comptime!(VECTORS) + UNIT_POS as usize;
            let last = min(first + comptime!(VECTORS), lens[at] as usize);
            for vector in range_stepped(first, last, CUBE_DIM as usize) {
                sum += values[vector] * values[vector];
            }
        }
        begin = end;
    }
    let sum = sum_of_lanes(sum_of_vector(sum), &mut shared, UNITS, false);
    if UNIT_POS == 0 && cube < begin {
        sums[(first_sum + cube) as usize] = sum;
    }
}

#[cube(launch)]
fn total(sums: &[f32], output: &mut [f32]) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let mut sum = 0.0f32;
    for at in range_stepped(UNIT_POS as usize, sums.len(), CUBE_DIM as usize) {
        sum += sums[at];
    }
    let sum = sum_of_lanes(sum, &mut shared, UNITS, false);
    if UNIT_POS == 0 {
        output[0] = sum;
    }
}

/// Finite numbers are not beyond it.
const LARGEST: f32 = f32::MAX;

/// - numbers: the loss and the norm of all gradients.
#[cube(launch)]
fn limit(
    squares: &[f32],
    loss: &[f32],
    numbers: &mut [f32],
    factor: &mut [f32],
    most: f32,
    inverse_scale: f32,
) {
    if ABSOLUTE_POS == 0 {
        let norm = f32::sqrt(squares[0]) * inverse_scale;
        numbers[0] = loss[0];
        numbers[1] = norm;
        // Comparisons with NaN are false.
        let mut own = 0.0f32;
        if norm <= f32::new(LARGEST)
            && loss[0] <= f32::new(LARGEST)
            && loss[0] >= f32::new(-LARGEST)
        {
            own = inverse_scale;
        }
        if norm > most {
            own *= most / (norm + 1e-6f32);
        }
        factor[0] = own;
    }
}

/// The loss and the gradients' norm without the loss scale, `[2]`, and the factor on gradients that clips them to
/// `most` and takes the loss scale away, `[1]`; 0 if one of the two numbers is not finite.
pub(crate) fn clip(
    squares: &CubeTensor,
    loss: &CubeTensor,
    most: f32,
    inverse_scale: f32,
) -> [CubeTensor; 2] {
    let [numbers, factor] = [2, 1].map(|len| empty(squares, [len], DType::F32));
    limit::launch(
        &squares.client,
        CubeCount::new_single(),
        CubeDim::new_1d(1),
        squares.clone().into_buffer_arg(),
        loss.clone().into_buffer_arg(),
        numbers.clone().into_buffer_arg(),
        factor.clone().into_buffer_arg(),
        most,
        inverse_scale,
    );
    [numbers, factor]
}

/// As [`Numbers`], which must not differ.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Constants {
    beta_1: f32,
    new_1: f32,
    beta_2: f32,
    new_2: f32,
    rate: f32,
    root: f32,
    eps: f32,
    kept: f32,
}

#[cube(launch)]
fn update<N: Size>(
    parameters: &mut Sequence<Box<[Vector<f32, N>]>>,
    first_moments: &mut Sequence<Box<[Vector<f32, N>]>>,
    second_moments: &mut Sequence<Box<[Vector<f32, N>]>>,
    gradients: &Sequence<Box<[Vector<f32, N>]>>,
    ends: &Sequence<u32>,
    lens: &Sequence<u32>,
    factor: &[f32],
    numbers: &Constants,
    #[comptime] count: usize,
) {
    let cube = CUBE_POS as u32;
    let factor = factor[0];
    let mut begin = 0u32;
    #[unroll]
    for at in 0..count {
        let end = ends[at];
        // A step whose gradient is not finite changes nothing.
        if cube >= begin && cube < end && factor > 0.0f32 {
            let gradient = &gradients[at];
            let first_moment = &mut first_moments[at];
            let second_moment = &mut second_moments[at];
            let parameter = &mut parameters[at];
            let first = (cube - begin) as usize * comptime!(VECTORS) + UNIT_POS as usize;
            let last = min(first + comptime!(VECTORS), lens[at] as usize);
            for vector in range_stepped(first, last, CUBE_DIM as usize) {
                let own = gradient[vector] * Vector::new(factor);
                let mean = first_moment[vector] * Vector::new(numbers.beta_1)
                    + own * Vector::new(numbers.new_1);
                let square = second_moment[vector] * Vector::new(numbers.beta_2)
                    + own * own * Vector::new(numbers.new_2);
                let scale =
                    Vector::sqrt(square) * Vector::new(numbers.root) + Vector::new(numbers.eps);
                first_moment[vector] = mean;
                second_moment[vector] = square;
                parameter[vector] = parameter[vector] * Vector::new(numbers.kept)
                    - mean * Vector::new(numbers.rate) / scale;
            }
        }
        begin = end;
    }
}

/// The sum of all squares, `[1]`, added in a fixed order.
/// - tensors: at least one; f32, contiguous.
pub(crate) fn sum_of_squares(tensors: &[CubeTensor]) -> CubeTensor {
    let like = &tensors[0];
    let vector = |tensor: &CubeTensor| {
        let len = tensor.meta.num_elements();
        vector_size(&like.client, &[DType::F32], len)
    };
    let count: usize = tensors
        .iter()
        .map(|tensor| cubes(tensor, vector(tensor)))
        .sum();
    let sums = empty(like, [count], DType::F32);
    let most = most_tensors(&like.client, 1);
    let mut first_sum = 0;
    for alike in tensors.chunk_by(|a, b| vector(a) == vector(b)) {
        for part in alike.chunks(most) {
            let size = vector(&part[0]);
            let shares = Shares::new(part.iter(), size);
            let count = shares.cubes();
            squares::launch(
                &like.client,
                grid(count),
                CubeDim::new_1d(UNITS),
                size,
                part.iter()
                    .map(|tensor| tensor.clone().into_buffer_arg())
                    .collect(),
                shares.ends.into_iter().collect(),
                shares.lens.into_iter().collect(),
                sums.clone().into_buffer_arg(),
                u32::try_from(first_sum).expect("tensors are below 2^44 values"),
                part.len(),
            );
            first_sum += count;
        }
    }
    let output = empty(like, [1], DType::F32);
    total::launch(
        &like.client,
        CubeCount::new_single(),
        CubeDim::new_1d(UNITS),
        sums.into_buffer_arg(),
        output.clone().into_buffer_arg(),
    );
    output
}

/// A parameter, its two moments and its gradient: f32, contiguous and of one shape. The first three are written, so
/// nothing else may read them.
#[derive(Debug)]
pub(crate) struct State {
    pub parameter: CubeTensor,
    pub first: CubeTensor,
    pub second: CubeTensor,
    pub gradient: CubeTensor,
}

/// One step of AdamW.
/// - states: with the same numbers.
/// - factor: on gradients, `[1]`; 0 leaves all as it is.
pub(crate) fn adamw(states: &[State], factor: &CubeTensor, numbers: Numbers) {
    let client = &factor.client;
    let vector = |state: &State| {
        let len = state.gradient.meta.num_elements();
        vector_size(client, &[DType::F32], len)
    };
    for alike in states.chunk_by(|a, b| vector(a) == vector(b)) {
        for part in alike.chunks(most_tensors(client, 4)) {
            let size = vector(&part[0]);
            let shares = Shares::new(part.iter().map(|state| &state.gradient), size);
            let count = shares.cubes();
            let all = |of: fn(&State) -> &CubeTensor| {
                let tensors = part.iter().map(of);
                tensors
                    .map(|tensor| tensor.clone().into_buffer_arg())
                    .collect()
            };
            update::launch(
                client,
                grid(count),
                CubeDim::new_1d(UNITS),
                size,
                all(|state| &state.parameter),
                all(|state| &state.first),
                all(|state| &state.second),
                all(|state| &state.gradient),
                shares.ends.into_iter().collect(),
                shares.lens.into_iter().collect(),
                factor.clone().into_buffer_arg(),
                ConstantsLaunch::new(
                    numbers.beta_1,
                    numbers.new_1,
                    numbers.beta_2,
                    numbers.new_2,
                    numbers.rate,
                    numbers.root,
                    numbers.eps,
                    numbers.kept,
                ),
                part.len(),
            );
        }
    }
}
