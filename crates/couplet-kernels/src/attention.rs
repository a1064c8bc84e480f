//! Self-attention.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::{DType, FloatDType, Tensor, activation, bf16};
use burn_flex::FlexTensor;

use crate::composed;
use crate::fresh::{fresh, fresh_pair};
use crate::graph::{Kernel, apply, compose, is_on_kernels};
use crate::heads::{merge_heads, split_heads};
use crate::math::{dot, exp, max, sum, wide};
use crate::product::{Before, Matrix, product};
use crate::values::{Dense, Value, tensor};

/// Scaled dot-product attention of every token to all tokens of its sequence, with the softmax
/// in f32 at least.
/// - qkv: packed queries, keys and values, `[batch, tokens, 3 * width]`; heads follow one
///   another in each of the three.
/// - mask: added to the scores, `[batch or 1, 1, tokens or 1, tokens]`; no gradient reaches it.
/// - returns `[batch, tokens, width]`.
///
/// # Panics
/// If the width is not a multiple of `heads`.
pub fn self_attention(qkv: Tensor<3>, heads: usize, mask: Option<&Tensor<4>>) -> Tensor<3> {
    let [_, tokens, packed] = qkv.dims();
    assert!(packed.is_multiple_of(3 * heads), "heads divide the width");
    let fits = is_on_kernels(&qkv) && mask.is_none_or(is_on_kernels);
    if !fits {
        let rows = mask.map(|mask| mask_rows(mask, tokens));
        let mask = rows.as_ref();
        let operation = composed::SelfAttention {
            heads,
            mask: mask.map(|mask| mask.clone().inner()),
        };
        let composed = compose(operation, [&qkv.clone().into_dispatch()]);
        return composed.unwrap_or_else(|| {
            let qkv = split_heads(qkv, 3 * heads);
            let part = |at: usize| qkv.clone().narrow(1, at * heads, heads);
            merge_heads(attention(part(0), part(1), part(2), mask))
        });
    }
    let mask = mask.map(Mask::new);
    if qkv.dtype() == DType::F32 {
        let kernel = SelfAttention::<f32>::new(heads, mask);
        apply(kernel, [qkv.into_dispatch()]).0
    } else {
        let kernel = SelfAttention::<bf16>::new(heads, mask);
        apply(kernel, [qkv.into_dispatch()]).0
    }
}

/// - mask: `[…, …, queries or 1, tokens]`; returns `[…, …, queries, tokens]`.
fn mask_rows(mask: &Tensor<4>, queries: usize) -> Tensor<4> {
    let [batch, heads, _, tokens] = mask.dims();
    mask.clone().expand([batch, heads, queries, tokens])
}

/// What is added to the scores of sequences.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    /// `[sequences, rows, tokens]`
    values: Vec<f32>,
    /// All of them, or one that stands for all.
    sequences: usize,
    /// One for each query, or one that stands for all.
    rows: usize,
}

impl Mask {
    /// - mask: `[batch or 1, 1, tokens or 1, tokens]`.
    pub fn new(mask: &Tensor<4>) -> Self {
        let [sequences, _, rows, _] = mask.dims();
        let values = mask.to_data().convert::<f32>().try_to_vec();
        Self {
            values: values.expect("the mask was converted"),
            sequences,
            rows,
        }
    }

    /// What is added to the scores of one query, `[tokens]`.
    fn row(&self, sequence: usize, query: usize, tokens: usize) -> &[f32] {
        let one_or = |count: usize, at: usize| if count == 1 { 0 } else { at };
        let row = one_or(self.sequences, sequence) * self.rows + one_or(self.rows, query);
        &self.values[row * tokens..][..tokens]
    }
}

/// Scaled dot-product attention of any queries to any keys, with the softmax in f32 at least.
/// It has no kernel of its own.
/// - q: `[batch, heads, queries, head_width]`; returns the same shape and dtype.
/// - k, v: `[batch, heads, tokens, head_width]`.
/// - mask: added to the scores, `[batch or 1, 1, queries or 1, tokens]`; no gradient reaches it.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<4> {
    let inputs = [&q, &k, &v].map(|input| input.clone().into_dispatch());
    let mask = mask.map(|mask| mask_rows(mask, q.dims()[2]));
    let mask = mask.as_ref();
    let operation = composed::Attention {
        mask: mask.map(|mask| mask.clone().inner()),
    };
    let composed = compose(operation, inputs.each_ref());
    composed.unwrap_or_else(|| burn_attention(q, k, v, mask))
}

#[expect(clippy::cast_precision_loss, reason = "heads are far below 2^24")]
fn burn_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<4> {
    let scale = (q.dims()[3] as f32).powf(-0.5);
    let scores_bhqk = q.mul_scalar(scale).matmul(k.swap_dims(2, 3));
    let mut scores_bhqk = match scores_bhqk.dtype() {
        DType::BF16 | DType::F16 => scores_bhqk.cast(FloatDType::F32),
        _ => scores_bhqk,
    };
    if let Some(mask) = mask {
        scores_bhqk = scores_bhqk + mask.clone();
    }
    let weights_bhqk = activation::softmax(scores_bhqk, 3).cast(v.dtype());
    weights_bhqk.matmul(v)
}

/// - E: the dtype of queries, keys and values, of the saved weights and of the output.
#[derive(Debug, Clone)]
struct SelfAttention<E> {
    heads: usize,
    mask: Option<Mask>,
    values: PhantomData<E>,
}

#[derive(Debug, Clone)]
struct Saved<E> {
    qkv: Dense<E>,
    /// After softmax, `[batch, heads, tokens, tokens]`.
    weights: Dense<E>,
}

/// Where one head's parts are in a sequence's `[tokens, 3 * width]`.
#[derive(Clone, Copy)]
struct HeadPlace {
    at: usize,
    tokens: usize,
    width: usize,
    head_width: usize,
}

impl HeadPlace {
    fn start(self, part: usize) -> usize {
        part * self.width + self.at * self.head_width
    }

    /// Queries (0), keys (1) or values (2).
    fn part<E: Value>(self, qkv: &[E], part: usize) -> Matrix<'_> {
        let from = &qkv[self.start(part)..];
        Matrix::strided(from, self.tokens, self.head_width, 3 * self.width)
    }
}

impl<E: Value> SelfAttention<E> {
    fn new(heads: usize, mask: Option<Mask>) -> Self {
        Self {
            heads,
            mask,
            values: PhantomData,
        }
    }

    fn heads_of(&self, qkv: &Dense<E>) -> Heads<'_> {
        let [_, tokens, packed] = *qkv.shape() else {
            unreachable!("queries, keys and values are of rank 3");
        };
        Heads {
            count: self.heads,
            mask: self.mask.as_ref(),
            tokens,
            width: packed / 3,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "heads are far below 2^24")]
fn scale(head_width: usize) -> f32 {
    (head_width as f32).sqrt().recip()
}

/// The attention of sequences.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    pub count: usize,
    /// Added to the scores.
    pub mask: Option<&'a Mask>,
    /// Of a sequence.
    pub tokens: usize,
    /// Of all heads.
    pub width: usize,
}

impl Heads<'_> {
    fn place(self, at: usize) -> HeadPlace {
        HeadPlace {
            at,
            tokens: self.tokens,
            width: self.width,
            head_width: self.width / self.count,
        }
    }

    /// - qkv: `[batch, tokens, 3 * width]`.
    /// - returns the output, `[batch, tokens, width]`, and the weights after softmax, `[batch, heads, tokens, tokens]`.
    pub fn attend<E: Value>(self, qkv: &[E]) -> [Vec<E>; 2] {
        let (tokens, width) = (self.tokens, self.width);
        let sequence = tokens * width;
        let scale = scale(width / self.count);
        let batch = qkv.len() / (3 * sequence);
        let sizes = [sequence, self.count * tokens * tokens].map(|size| [batch * size, size]);
        fresh_pair(sizes, |in_batch, [out, weights]: [&mut [E]; 2]| {
            let qkv = &qkv[in_batch * 3 * sequence..][..3 * sequence];
            let mut scores = vec![0.0; tokens * tokens];
            for (at, weights) in weights.chunks_exact_mut(tokens * tokens).enumerate() {
                let head = self.place(at);
                let (queries, keys) = (head.part(qkv, 0), head.part(qkv, 1).transposed());
                product(&mut scores, tokens, Before::Overwrite, queries, keys);
                wide(
                    #[inline(always)]
                    || {
                        let rows = scores.chunks_exact_mut(tokens);
                        let rows = rows.zip(weights.chunks_exact_mut(tokens));
                        for (row, (scores, weights)) in rows.enumerate() {
                            let mask = self.mask.map(|mask| mask.row(in_batch, row, tokens));
                            softmax(scores, scale, mask, weights);
                        }
                    },
                );
                let weights = Matrix::new(weights, tokens, tokens);
                let out = &mut out[head.start(0)..];
                product(out, width, Before::Overwrite, weights, head.part(qkv, 2));
            }
        })
    }

    /// - qkv, weights: as [`Self::attend`] takes and returns them; gradient: of its output.
    /// - returns the gradient of qkv.
    pub fn gradient<E: Value>(self, qkv: &[E], weights: &[E], gradient: &[E]) -> Vec<E> {
        let (tokens, width) = (self.tokens, self.width);
        let (sequence, squares) = (tokens * width, self.count * tokens * tokens);
        let scale = scale(width / self.count);
        let of_sequence = |at: usize, of_qkv: &mut [E]| {
            let qkv = &qkv[at * 3 * sequence..][..3 * sequence];
            let weights = &weights[at * squares..][..squares];
            let gradient = &gradient[at * sequence..][..sequence];
            let (mut of_scores, mut spare) = (vec![0.0; tokens * tokens], Vec::new());
            for (at, weights) in weights.chunks_exact(tokens * tokens).enumerate() {
                let head = self.place(at);
                let values = head.part(qkv, 2).transposed();
                let out = &gradient[head.start(0)..];
                let out = Matrix::strided(out, tokens, head.head_width, width);
                product(&mut of_scores, tokens, Before::Overwrite, out, values);
                wide(
                    #[inline(always)]
                    || {
                        let rows = of_scores.chunks_exact_mut(tokens);
                        for (of_scores, weights) in rows.zip(weights.chunks_exact(tokens)) {
                            let along = dot(of_scores, weights);
                            for (of_score, weight) in of_scores.iter_mut().zip(weights) {
                                *of_score = weight.wide() * (*of_score - along) * scale;
                            }
                        }
                    },
                );
                let of_scores = E::narrowed(&of_scores, &mut spare);
                let of_scores = Matrix::new(of_scores, tokens, tokens);
                let weights = Matrix::new(weights, tokens, tokens);
                let mut part = |part: usize, left: Matrix, right: Matrix| {
                    let of_part = &mut of_qkv[head.start(part)..];
                    product(of_part, 3 * width, Before::Overwrite, left, right);
                };
                part(0, of_scores, head.part(qkv, 1));
                part(1, of_scores.transposed(), head.part(qkv, 0));
                part(2, weights.transposed(), out);
            }
        };
        fresh(qkv.len(), 3 * sequence, of_sequence).0
    }
}

impl<E: Value> Kernel<Flex, 1> for SelfAttention<E> {
    type Saved = Saved<E>;

    fn forward(&self, [qkv]: [FlexTensor; 1]) -> (FlexTensor, Saved<E>) {
        let qkv = Dense::<E>::new(qkv);
        let heads = self.heads_of(&qkv);
        let [out, weights] = heads.attend(qkv.values());
        let shape = [qkv.shape()[0], heads.tokens, heads.width];
        let weights = Dense::flat(weights);
        (tensor(out, &shape), Saved { qkv, weights })
    }

    fn backward(
        &self,
        Saved { qkv, weights }: Saved<E>,
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let gradient = Dense::<E>::new(gradient);
        let heads = self.heads_of(&qkv);
        let of_qkv = heads.gradient(qkv.values(), weights.values(), gradient.values());
        [Some(tensor(of_qkv, qkv.shape()))]
    }
}

/// - scores: of one row; what they are after it is left open.
/// - mask: added to the scaled scores.
#[inline(always)]
fn softmax<E: Value>(scores: &mut [f32], scale: f32, mask: Option<&[f32]>, weights: &mut [E]) {
    match mask {
        None => {
            for score in scores.iter_mut() {
                *score *= scale;
            }
        }
        Some(mask) => {
            for (score, mask) in scores.iter_mut().zip(mask) {
                *score = *score * scale + mask;
            }
        }
    }
    let largest = max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    let inverse = sum(scores).recip();
    for (weight, score) in weights.iter_mut().zip(scores) {
        *weight = E::narrow(*score * inverse);
    }
}
