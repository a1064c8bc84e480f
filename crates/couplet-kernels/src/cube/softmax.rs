//! Softmax over the last dimension of attention's scores.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Rows, elem, empty, max_of_lanes, sum_of_lanes, sum_of_vector, vector_size};

/// Below every score but minus infinity, from which it may be subtracted.
const LEAST: f32 = f32::MIN;

/// Scores, scaled, plus mask; [`LEAST`] beyond the row's end.
#[cube]
fn masked<S: Float, M: Float, N: Size>(
    scores: Vector<S, N>,
    first: usize,
    mask: &[M],
    of_mask: usize,
    scale: f32,
    #[comptime] tokens: usize,
    #[comptime] is_ragged: bool,
    #[comptime] is_masked: bool,
) -> Vector<f32, N> {
    let mut scores = Vector::<f32, N>::cast_from(scores) * Vector::new(scale);
    if comptime!(is_masked) || comptime!(is_ragged) {
        #[unroll]
        for at in 0..N::value() {
            let token = first + at;
            let mut score = f32::new(LEAST);
            if token < tokens {
                score = scores.extract(at);
                if comptime!(is_masked) {
                    score += f32::cast_from(mask[of_mask + token]);
                }
            }
            scores.insert(at, score);
        }
    }
    scores
}

#[cube(launch)]
fn forward<S: Float, M: Float, O: Float, N: Size>(
    scores: &[Vector<S, N>],
    mask: &[M],
    weights: &mut [Vector<O, N>],
    rows: usize,
    rows_of_sequence: usize,
    rows_of_head: usize,
    queries: usize,
    mask_of_sequence: usize,
    mask_of_query: usize,
    scale: f32,
    #[comptime] tokens: usize,
    #[comptime] size: usize,
    #[comptime] vectors: usize,
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
    let (lane, start) = (UNIT_POS_X as usize, row * vectors);
    // Padding takes the last query's mask.
    let query = min(row % rows_of_head, queries - 1);
    let of_mask = row / rows_of_sequence * mask_of_sequence + query * mask_of_query;

    // A lane's part of the row stays in its registers.
    let steps = comptime!(vectors.div_ceil(lanes as usize));
    let mut kept = Array::<Vector<f32, N>>::new(steps);
    let mut most = f32::new(LEAST);
    #[unroll]
    for step in 0..steps {
        let at = lane + step * lanes as usize;
        let mut score = Vector::<f32, N>::new(f32::new(LEAST));
        if at < vectors {
            score = masked(
                scores[start + at],
                at * N::value(),
                mask,
                of_mask,
                scale,
                tokens,
                comptime!((step + 1) * lanes as usize * size > tokens),
                is_masked,
            );
        }
        #[unroll]
        for part in 0..N::value() {
            most = max(most, score.extract(part));
        }
        kept[step] = score;
    }
    let most = max_of_lanes(most, &mut shared, lanes, are_planes);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for step in 0..steps {
        let at = lane + step * lanes as usize;
        let share = Vector::exp(kept[step] - Vector::new(most));
        let is_ragged = comptime!((step + 1) * lanes as usize * size > tokens);
        let share = within(share, at * N::value(), tokens, is_ragged);
        kept[step] = share;
        sum += share;
    }
    let sum = sum_of_lanes(sum_of_vector(sum), &mut shared, lanes, are_planes);
    let share = Vector::<f32, N>::new(1.0f32 / sum);
    if own < rows {
        #[unroll]
        for step in 0..steps {
            let at = lane + step * lanes as usize;
            if at < vectors {
                weights[start + at] = Vector::cast_from(kept[step] * share);
            }
        }
    }
}

/// A row's values; 0 beyond its end.
#[cube]
fn within<F: Float, N: Size>(
    values: Vector<F, N>,
    first: usize,
    #[comptime] tokens: usize,
    #[comptime] is_ragged: bool,
) -> Vector<f32, N> {
    let mut values = Vector::<f32, N>::cast_from(values);
    if comptime!(is_ragged) {
        #[unroll]
        for at in 0..N::value() {
            let value = select(first + at < tokens, values.extract(at), 0.0f32);
            values.insert(at, value);
        }
    }
    values
}

#[cube(launch)]
fn backward<W: Float, G: Float, N: Size>(
    weights: &[Vector<W, N>],
    gradient: &[Vector<G, N>],
    of_scores: &mut [Vector<W, N>],
    rows: usize,
    scale: f32,
    #[comptime] tokens: usize,
    #[comptime] size: usize,
    #[comptime] vectors: usize,
    #[comptime] lanes: u32,
    #[comptime] are_planes: bool,
    #[comptime] shared: usize,
    #[define(W, G)] _dtypes: [ElemType; 2],
) {
    let mut shared = Shared::<[f32]>::new_slice(shared);
    let own = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let row = select(own < rows, own, rows - 1);
    let (lane, start) = (UNIT_POS_X as usize, row * vectors);
    // As above, weights and gradient, in their dtypes.
    let steps = comptime!(vectors.div_ceil(lanes as usize));
    let mut kept = Array::<Vector<W, N>>::new(steps);
    let mut rest = Array::<Vector<G, N>>::new(steps);
    let mut along = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for step in 0..steps {
        let at = lane + step * lanes as usize;
        let is_ragged = comptime!((step + 1) * lanes as usize * size > tokens);
        let mut weight = Vector::<W, N>::new(W::new(0.0));
        let mut own = Vector::<G, N>::new(G::new(0.0));
        if at < vectors {
            weight = weights[start + at];
            own = gradient[start + at];
        }
        along += within(weight, at * N::value(), tokens, is_ragged)
            * within(own, at * N::value(), tokens, is_ragged);
        kept[step] = weight;
        rest[step] = own;
    }
    let along = sum_of_lanes(sum_of_vector(along), &mut shared, lanes, are_planes);
    if own < rows {
        #[unroll]
        for step in 0..steps {
            let at = lane + step * lanes as usize;
            let is_ragged = comptime!((step + 1) * lanes as usize * size > tokens);
            if at < vectors {
                let weight = within(kept[step], at * N::value(), tokens, is_ragged);
                let own = within(rest[step], at * N::value(), tokens, is_ragged);
                let scaled = weight * (own - Vector::new(along)) * Vector::new(scale);
                of_scores[start + at] = Vector::cast_from(scaled);
            }
        }
    }
}

/// The softmax of `scale * scores + mask`.
/// - scores: `[batch, heads, queries, tokens]`, contiguous.
/// - extent: how many queries and tokens there are; what follows them is padding, which gets no weight.
/// - mask: `[1 or batch, 1, 1 or queries, tokens]` without padding, contiguous.
pub(crate) fn softmax(
    scores: &CubeTensor,
    [queries, tokens]: [usize; 2],
    mask: Option<&CubeTensor>,
    scale: f32,
    dtype: DType,
) -> CubeTensor {
    let shape = scores.meta.shape().clone();
    let [batch, heads, rows_of_head, width] = shape[..] else {
        unreachable!("scores of heads");
    };
    let rows = batch * heads * rows_of_head;
    let size = vector_size(&scores.client, &[scores.dtype, dtype], width);
    let plan = Rows::kept(&scores.client, width);
    let weights = empty(scores, shape, dtype);
    let [mut mask_of_sequence, mut mask_of_query] = [0; 2];
    if let Some(mask) = mask {
        let mask = mask.meta.shape();
        let fits = mask.len() == 4
            && (mask[0] == 1 || mask[0] == batch)
            && mask[1] == 1
            && (mask[2] == 1 || mask[2] == queries)
            && mask[3] == tokens;
        assert!(
            fits,
            "a mask of {mask:?} for {batch} sequences of {queries} queries and {tokens} tokens"
        );
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
        plan.grid(rows, width / size),
        plan.cube(),
        size,
        scores.clone().into_buffer_arg(),
        given.clone().into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        rows,
        heads * rows_of_head,
        rows_of_head,
        queries,
        mask_of_sequence,
        mask_of_query,
        scale,
        tokens,
        size,
        width / size,
        mask.is_some(),
        plan.lanes,
        plan.are_planes,
        plan.shared(),
        [elem(scores.dtype), elem(given.dtype), elem(dtype)],
    );
    weights
}

/// The gradient of softmax's input before its scale, in the dtype of `weights`.
/// - weights: softmax's output, contiguous; gradient: of it, likewise; tokens: those before the padding.
pub(crate) fn softmax_gradient(
    weights: &CubeTensor,
    gradient: &CubeTensor,
    tokens: usize,
    scale: f32,
) -> CubeTensor {
    let shape = weights.meta.shape().clone();
    let width = *shape.last().expect("a row");
    let rows = shape.iter().product::<usize>() / width;
    let size = vector_size(&weights.client, &[weights.dtype, gradient.dtype], width);
    let plan = Rows::kept(&weights.client, width);
    let of_scores = empty(weights, shape, weights.dtype);
    backward::launch(
        &weights.client,
        plan.grid(rows, width / size),
        plan.cube(),
        size,
        weights.clone().into_buffer_arg(),
        gradient.clone().into_buffer_arg(),
        of_scores.clone().into_buffer_arg(),
        rows,
        scale,
        tokens,
        size,
        width / size,
        plan.lanes,
        plan.are_planes,
        plan.shared(),
        [elem(weights.dtype), elem(gradient.dtype)],
    );
    of_scores
}
