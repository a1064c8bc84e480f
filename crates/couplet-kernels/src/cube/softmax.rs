//! Softmax over the last dimension of attention's scores.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::zspace::metadata::Metadata;

use super::{Rows, elem, empty, max_of_lanes, sum_of_lanes};

/// Below every score but minus infinity, from which it may be subtracted.
const LEAST: f32 = -3.0e38;

#[cube(launch)]
fn forward<S: Float, M: Float, O: Float>(
    scores: &[S],
    mask: &[M],
    weights: &mut [O],
    rows: usize,
    pitch: usize,
    queries: usize,
    rows_of_sequence: usize,
    mask_of_sequence: usize,
    mask_of_query: usize,
    #[comptime] tokens: usize,
    #[comptime] is_masked: bool,
    #[comptime] lanes: u32,
    #[comptime] are_planes: bool,
    #[comptime] shared: usize,
    #[define(S, M, O)] _dtypes: [ElemType; 3],
) {
    let mut shared = Shared::<[f32]>::new_slice(shared);
    let own = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    // All units reach every barrier.
    let row = select(own < rows, own, rows - 1);
    let (lane, start) = (UNIT_POS_X as usize, row * pitch);
    let of_mask = row / rows_of_sequence * mask_of_sequence + row % queries * mask_of_query;

    let mut most = f32::new(LEAST);
    for at in range_stepped(lane, tokens, lanes as usize) {
        let mut score = f32::cast_from(scores[start + at]);
        if comptime!(is_masked) {
            score += f32::cast_from(mask[of_mask + at]);
        }
        most = max(most, score);
    }
    let most = max_of_lanes(most, &mut shared, lanes, are_planes);
    let mut sum = 0.0f32;
    for at in range_stepped(lane, tokens, lanes as usize) {
        let mut score = f32::cast_from(scores[start + at]);
        if comptime!(is_masked) {
            score += f32::cast_from(mask[of_mask + at]);
        }
        sum += f32::exp(score - most);
    }
    let share = 1.0f32 / sum_of_lanes(sum, &mut shared, lanes, are_planes);
    if own < rows {
        for at in range_stepped(lane, tokens, lanes as usize) {
            let mut score = f32::cast_from(scores[start + at]);
            if comptime!(is_masked) {
                score += f32::cast_from(mask[of_mask + at]);
            }
            weights[start + at] = O::cast_from(f32::exp(score - most) * share);
        }
    }
}

#[cube(launch)]
fn backward<W: Float, G: Float>(
    weights: &[W],
    gradient: &[G],
    of_scores: &mut [W],
    rows: usize,
    pitch: usize,
    #[comptime] tokens: usize,
    #[comptime] lanes: u32,
    #[comptime] are_planes: bool,
    #[comptime] shared: usize,
    #[define(W, G)] _dtypes: [ElemType; 2],
) {
    let mut shared = Shared::<[f32]>::new_slice(shared);
    let own = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let row = select(own < rows, own, rows - 1);
    let (lane, start) = (UNIT_POS_X as usize, row * pitch);
    let mut along = 0.0f32;
    for at in range_stepped(lane, tokens, lanes as usize) {
        along += f32::cast_from(weights[start + at]) * f32::cast_from(gradient[start + at]);
    }
    let along = sum_of_lanes(along, &mut shared, lanes, are_planes);
    if own < rows {
        for at in range_stepped(lane, tokens, lanes as usize) {
            let weight = f32::cast_from(weights[start + at]);
            let rest = f32::cast_from(gradient[start + at]) - along;
            of_scores[start + at] = W::cast_from(weight * rest);
        }
    }
}

/// From a row to the next.
fn pitch(rows: &CubeTensor) -> usize {
    let strides = rows.meta.strides();
    strides[strides.len() - 2]
}

/// Memory for values that are laid out in the same way.
fn empty_like(rows: &CubeTensor, dtype: DType) -> CubeTensor {
    let (shape, strides) = (rows.meta.shape().clone(), rows.meta.strides().clone());
    let memory = empty(rows, [shape[0] * strides[0]], dtype);
    let meta = Metadata::new(shape, strides);
    CubeTensor::new(memory.client, memory.handle, meta, memory.device, dtype)
}

/// The softmax of `scores + mask`.
/// - scores: `[batch, heads, queries, tokens]`; rows may have gaps, which are not read and stay in the output.
/// - mask: `[1 or batch, 1, 1 or queries, tokens]`, contiguous.
pub(crate) fn softmax(scores: &CubeTensor, mask: Option<&CubeTensor>, dtype: DType) -> CubeTensor {
    let shape = scores.meta.shape().clone();
    let [batch, heads, queries, tokens] = shape[..] else {
        unreachable!("scores of heads");
    };
    let rows = batch * heads * queries;
    let plan = Rows::new(&scores.client);
    let (pitch, weights) = (pitch(scores), empty_like(scores, dtype));
    let [mut mask_of_sequence, mut mask_of_query] = [0; 2];
    if let Some(mask) = mask {
        let mask = mask.meta.shape();
        if mask[2] > 1 {
            mask_of_query = tokens;
        }
        if mask[0] > 1 {
            mask_of_sequence = mask[2] * tokens;
        }
    }
    let given = mask.unwrap_or(scores);
    forward::launch(
        &scores.client,
        plan.grid(rows),
        plan.cube(),
        scores.clone().into_buffer_arg(),
        given.clone().into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        rows,
        pitch,
        queries,
        heads * queries,
        mask_of_sequence,
        mask_of_query,
        tokens,
        mask.is_some(),
        plan.lanes,
        plan.are_planes,
        plan.shared(),
        [elem(scores.dtype), elem(given.dtype), elem(dtype)],
    );
    weights
}

/// The gradient of softmax's input (before the scale), in the dtype of `weights`.
/// - weights: softmax's output; gradient: of it, laid out as it is.
pub(crate) fn softmax_gradient(weights: &CubeTensor, gradient: &CubeTensor) -> CubeTensor {
    let shape = weights.meta.shape().clone();
    let tokens = *shape.last().expect("a row");
    let rows = shape.iter().product::<usize>() / tokens;
    let plan = Rows::new(&weights.client);
    let (pitch, of_scores) = (pitch(weights), empty_like(weights, weights.dtype));
    backward::launch(
        &weights.client,
        plan.grid(rows),
        plan.cube(),
        weights.clone().into_buffer_arg(),
        gradient.clone().into_buffer_arg(),
        of_scores.clone().into_buffer_arg(),
        rows,
        pitch,
        tokens,
        plan.lanes,
        plan.are_planes,
        plan.shared(),
        [elem(weights.dtype), elem(gradient.dtype)],
    );
    of_scores
}
