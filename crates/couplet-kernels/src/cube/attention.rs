//! Attention of every token to all of its sequence.

use burn::tensor::Shape;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::product::multiply_into;
use super::softmax::{softmax, softmax_gradient};
use super::{UNITS, elem, empty, grid, laid_out, vector_size};

/// Sequences end at multiples of this many bytes: cuBLASLt's fast products need rows and columns that do.
const ROW: usize = 16;

/// Moves vectors between `[batch, tokens, parts, heads, head_width]` and parts of `[batch, heads, padded tokens,
/// head_width]`, where padding becomes zeros.
#[cube(launch)]
fn move_heads<F: Float, N: Size>(
    from: &[Vector<F, N>],
    to: &mut [Vector<F, N>],
    count: usize,
    batch: usize,
    tokens: usize,
    padded: usize,
    heads: usize,
    stride: usize,
    #[comptime] parts: usize,
    #[comptime] vectors: usize,
    #[comptime] packs: bool,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS as usize;
    if at < count {
        let vector = at % vectors;
        let rest = at / vectors;
        let length = if comptime!(packs) { tokens } else { padded };
        let token = rest % length;
        let rest = rest / length;
        let head = rest % heads;
        let rest = rest / heads;
        let sequence = rest % batch;
        let part = rest / batch;
        let apart = part * stride + ((sequence * heads + head) * padded + token) * vectors + vector;
        let packed =
            (((sequence * tokens + token) * parts + part) * heads + head) * vectors + vector;
        if comptime!(packs) {
            to[packed] = from[apart];
        } else if token < tokens {
            to[apart] = from[packed];
        } else {
            to[apart] = Vector::new(F::new(0.0));
        }
    }
}

/// The sizes of an attention.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    tokens: usize,
    /// The tokens of a sequence with those that are zeros at its end.
    padded: usize,
    heads: usize,
    head_width: usize,
}

impl Sizes {
    /// - packed: `[batch, tokens, parts * heads * head_width]`.
    fn new(packed: &CubeTensor, parts: usize, heads: usize) -> Self {
        let [batch, tokens, width] = packed.meta.shape()[..] else {
            unreachable!("packed heads have three dimensions");
        };
        let head_width = width / (parts * heads);
        Self {
            batch,
            tokens,
            padded: tokens.next_multiple_of(ROW / packed.dtype.size()),
            heads,
            head_width,
        }
    }

    fn part(self) -> [usize; 4] {
        [self.batch, self.heads, self.padded, self.head_width]
    }

    fn len(self) -> usize {
        self.part().iter().product()
    }

    fn scale(self) -> f32 {
        (self.head_width as f32).powf(-0.5)
    }

    /// Memory for scores.
    fn scores(self, like: &CubeTensor) -> CubeTensor {
        let shape = [self.batch, self.heads, self.padded, self.padded];
        empty(like, shape, like.dtype)
    }
}

/// The same with the last two dimensions exchanged.
fn turned(tensor: &CubeTensor) -> CubeTensor {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let exchange = |of: &[usize]| [of[0], of[1], of[3], of[2]];
    laid_out(tensor, exchange(&shape[..]), exchange(&strides[..]))
}

/// Heads apart: parts of `[batch, heads, padded tokens, head_width]` in one buffer.
#[derive(Debug, Clone)]
struct Parts {
    memory: CubeTensor,
    count: usize,
    sizes: Sizes,
}

impl Parts {
    fn empty(like: &CubeTensor, count: usize, sizes: Sizes) -> Self {
        let memory = empty(like, [count * Self::stride(like, sizes)], like.dtype);
        Self {
            memory,
            count,
            sizes,
        }
    }

    /// From a part to the next, in values. Each may be bound by itself.
    fn stride(like: &CubeTensor, sizes: Sizes) -> usize {
        let alignment = usize::try_from(like.client.properties().memory.alignment);
        let alignment = alignment.expect("an alignment is small").max(ROW);
        sizes
            .len()
            .next_multiple_of(alignment / like.dtype.size().min(alignment))
    }

    /// - packed: `[batch, tokens, count * heads * head_width]`, contiguous.
    fn new(packed: &CubeTensor, count: usize, heads: usize) -> Self {
        let parts = Self::empty(packed, count, Sizes::new(packed, count, heads));
        parts.copy(packed, &parts.memory, false);
        parts
    }

    fn packed(&self) -> CubeTensor {
        let Sizes {
            batch,
            tokens,
            heads,
            head_width,
            ..
        } = self.sizes;
        let shape = [batch, tokens, self.count * heads * head_width];
        let packed = empty(&self.memory, shape, self.memory.dtype);
        self.copy(&self.memory, &packed, true);
        packed
    }

    fn copy(&self, from: &CubeTensor, to: &CubeTensor, packs: bool) {
        let sizes = self.sizes;
        let size = vector_size(&from.client, &[from.dtype], sizes.head_width);
        let length = if packs { sizes.tokens } else { sizes.padded };
        let count = self.count * sizes.len() / sizes.padded * length / size;
        move_heads::launch(
            &from.client,
            grid(count.div_ceil(UNITS as usize)),
            CubeDim::new_1d(UNITS),
            size,
            from.clone().into_buffer_arg(),
            to.clone().into_buffer_arg(),
            count,
            sizes.batch,
            sizes.tokens,
            sizes.padded,
            sizes.heads,
            Self::stride(from, sizes) / size,
            self.count,
            sizes.head_width / size,
            packs,
            elem(from.dtype),
        );
    }

    fn part(&self, at: usize) -> CubeTensor {
        let (stride, bytes) = (
            Self::stride(&self.memory, self.sizes),
            self.memory.dtype.size(),
        );
        let handle = self.memory.handle.clone();
        let handle = handle
            .offset_start((at * stride * bytes) as u64)
            .offset_end(((self.count - 1 - at) * stride * bytes) as u64);
        let (client, device) = (self.memory.client.clone(), self.memory.device.clone());
        let shape = Shape::from(self.sizes.part());
        CubeTensor::new_contiguous(client, device, shape, handle, self.memory.dtype)
    }
}

/// What the backward pass reads.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    qkv: Parts,
    /// After softmax.
    weights: CubeTensor,
}

/// - qkv: `[batch, tokens, 3 * width]`, contiguous; mask: as for [`softmax`].
/// - returns `[batch, tokens, width]`.
pub(crate) fn self_attention(
    qkv: &CubeTensor,
    heads: usize,
    mask: Option<&CubeTensor>,
) -> (CubeTensor, Saved) {
    let qkv = Parts::new(qkv, 3, heads);
    let sizes = qkv.sizes;
    let [q, k, v] = [0, 1, 2].map(|at| qkv.part(at));
    let scores = sizes.scores(&q);
    let scale = multiply_into(&q, &turned(&k), sizes.scale(), &scores);
    let extent = [sizes.tokens; 2];
    let weights = softmax(&scores, extent, mask, scale, scores.dtype);
    let attended = Parts::empty(&q, 1, sizes);
    multiply_into(&weights, &v, 1.0, &attended.part(0));
    (attended.packed(), Saved { qkv, weights })
}

/// The gradient of qkv.
/// - gradient: of the output, contiguous.
pub(crate) fn self_attention_gradient(saved: &Saved, gradient: &CubeTensor) -> CubeTensor {
    let Saved { qkv, weights } = saved;
    let sizes = qkv.sizes;
    let [q, k, v] = [0, 1, 2].map(|at| qkv.part(at));
    let gradient = Parts::new(gradient, 1, sizes.heads).part(0);
    let of_qkv = Parts::empty(&q, 3, sizes);
    multiply_into(&turned(weights), &gradient, 1.0, &of_qkv.part(2));
    let of_weights = sizes.scores(&q);
    multiply_into(&gradient, &turned(&v), 1.0, &of_weights);
    let of_scores = softmax_gradient(weights, &of_weights, sizes.tokens, sizes.scale());
    multiply_into(&of_scores, &k, 1.0, &of_qkv.part(0));
    multiply_into(&turned(&of_scores), &q, 1.0, &of_qkv.part(1));
    of_qkv.packed()
}
