use burn::backend::DispatchTensor;
#[cfg(feature = "_cube")]
use burn::tensor::DType;
use burn::tensor::{Tensor, activation};

use super::{multiply, narrow, widen};
#[cfg(feature = "_cube")]
use crate::cube;
use crate::graph::Composed;
use crate::heads::{merge_heads, split_heads};

/// Attention of any queries to any keys: `[batch, heads, queries, head_width]` and `[batch, heads, tokens,
/// head_width]`.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    /// Added to the scores.
    pub mask: Option<Tensor<4>>,
}

/// Attention of every token of `[batch, tokens, 3 * width]` to all of its sequence.
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    pub heads: usize,
    /// Added to the scores.
    pub mask: Option<Tensor<4>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Saved {
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    /// After softmax, in the inputs' dtype.
    weights: Tensor<4>,
}

#[expect(clippy::cast_precision_loss, reason = "heads are far below 2^24")]
fn scale(q: &Tensor<4>) -> f32 {
    (q.dims()[3] as f32).powf(-0.5)
}

impl Saved {
    /// - returns what the backward pass reads, and the output.
    fn attend([q, k, v]: [Tensor<4>; 3], mask: Option<&Tensor<4>>) -> (Self, Tensor<4>) {
        let sequences = |x: &Tensor<4>| x.dims()[..2].to_vec();
        assert!(
            sequences(&q) == sequences(&k) && k.dims() == v.dims(),
            "queries, keys and values of the same sequences and heads"
        );
        let (scale, dtype) = (scale(&q), q.dtype());
        let weights = attention_weights(&q, &k, scale, mask);
        let output = multiply(weights.clone(), v.clone(), dtype);
        (Self { q, k, v, weights }, output)
    }

    /// - gradient: of the output; returns those of q, k and v.
    fn gradients(self, gradient: Tensor<4>) -> [Tensor<4>; 3] {
        let Self { q, k, v, weights } = self;
        let dtype = gradient.dtype();
        let of_v = multiply(weights.clone().swap_dims(2, 3), gradient.clone(), dtype);
        let of_weights = multiply(gradient, v.swap_dims(2, 3), dtype);
        let of_scores = softmax_gradient(weights, of_weights, scale(&q));
        let of_k = multiply(of_scores.clone().swap_dims(2, 3), q, dtype);
        let of_q = multiply(of_scores, k, dtype);
        [of_q, of_k, of_v]
    }
}

#[cfg(feature = "_cube")]
const MASK_IS_THERE: &str = "a mask is where the scores are";

/// The softmax of `scale q kᵀ + mask`, in the dtype of both.
fn attention_weights(
    q: &Tensor<4>,
    k: &Tensor<4>,
    scale: f32,
    mask: Option<&Tensor<4>>,
) -> Tensor<4> {
    let (dtype, turned) = (q.dtype(), k.clone().swap_dims(2, 3));
    #[cfg(feature = "_cube")]
    if cube::plain(q).is_some() {
        // As below.
        let (scaled, scale) = match dtype {
            DType::F16 => (q.clone().mul_scalar(scale), 1.0),
            _ => (q.clone(), scale),
        };
        let scores = cube::on_cube(&multiply(scaled, turned, dtype));
        let scores = scores.expect("a product is where its operands are");
        let mask = mask.map(|mask| cube::on_cube(mask).expect(MASK_IS_THERE));
        let extent = [q.dims()[2], k.dims()[2]];
        let weights = cube::softmax(&scores, extent, mask.as_ref(), scale, dtype);
        return cube::tensor(weights);
    }
    // Scaled before the product, which may be in f16.
    let scores = widen(q.clone().mul_scalar(scale).matmul(turned));
    let scores = match mask {
        Some(mask) => {
            let mask = narrow(mask.clone(), scores.dtype());
            scores + mask
        }
        None => scores,
    };
    narrow(activation::softmax(scores, 3), dtype)
}

/// The gradient of the scores before their scale.
/// - gradient: of the weights.
fn softmax_gradient(weights: Tensor<4>, gradient: Tensor<4>, scale: f32) -> Tensor<4> {
    #[cfg(feature = "_cube")]
    if let (Some(weights), Some(gradient)) = (cube::on_cube(&weights), cube::on_cube(&gradient)) {
        let tokens = *weights.meta.shape().last().expect("a row");
        let of_scores = cube::softmax_gradient(&weights, &gradient, tokens, scale);
        return cube::tensor(of_scores);
    }
    let (dtype, weights, gradient) = (weights.dtype(), widen(weights), widen(gradient));
    let along = (gradient.clone() * weights.clone()).sum_dim(3);
    narrow(((gradient - along) * weights).mul_scalar(scale), dtype)
}

impl Composed<3> for Attention {
    type Saved = Saved;

    fn forward(&self, inputs: [DispatchTensor; 3]) -> (DispatchTensor, Saved) {
        let inputs = inputs.map(Tensor::from_dispatch);
        let (saved, output) = Saved::attend(inputs, self.mask.as_ref());
        (output.into_dispatch(), saved)
    }

    fn backward(
        &self,
        saved: Saved,
        gradient: DispatchTensor,
        _: [bool; 3],
    ) -> [Option<DispatchTensor>; 3] {
        let gradients = saved.gradients(Tensor::from_dispatch(gradient));
        gradients.map(|gradient| Some(gradient.into_dispatch()))
    }
}

#[derive(Debug, Clone)]
#[cfg_attr(
    feature = "_cube",
    allow(clippy::large_enum_variant, reason = "there is one for each block")
)]
pub(crate) enum SavedBySelf {
    Tensors(Saved),
    /// For the kernels.
    #[cfg(feature = "_cube")]
    OnCube(cube::SavedAttention),
}

impl Composed<1> for SelfAttention {
    type Saved = SavedBySelf;

    fn forward(&self, [qkv]: [DispatchTensor; 1]) -> (DispatchTensor, SavedBySelf) {
        let qkv: Tensor<3> = Tensor::from_dispatch(qkv);
        #[cfg(feature = "_cube")]
        if let Some(qkv) = cube::on_cube(&qkv) {
            let mask = self.mask.as_ref();
            let mask = mask.map(|mask| cube::on_cube(mask).expect(MASK_IS_THERE));
            let (output, saved) = cube::self_attention(&qkv, self.heads, mask.as_ref());
            let output: Tensor<3> = cube::tensor(output);
            return (output.into_dispatch(), SavedBySelf::OnCube(saved));
        }
        let qkv = split_heads(qkv, 3 * self.heads);
        let part = |at: usize| qkv.clone().narrow(1, at * self.heads, self.heads);
        let parts = [part(0), part(1), part(2)];
        let (saved, output) = Saved::attend(parts, self.mask.as_ref());
        let output = merge_heads(output).into_dispatch();
        (output, SavedBySelf::Tensors(saved))
    }

    fn backward(
        &self,
        saved: SavedBySelf,
        gradient: DispatchTensor,
        _: [bool; 1],
    ) -> [Option<DispatchTensor>; 1] {
        let gradient: Tensor<3> = Tensor::from_dispatch(gradient);
        let of_qkv: Tensor<3> = match saved {
            SavedBySelf::Tensors(saved) => {
                let parts = saved.gradients(split_heads(gradient, self.heads));
                Tensor::cat(parts.map(merge_heads).to_vec(), 2)
            }
            #[cfg(feature = "_cube")]
            SavedBySelf::OnCube(saved) => {
                let gradient = cube::on_cube(&gradient).expect("it is where the output is");
                cube::tensor(cube::self_attention_gradient(&saved, &gradient))
            }
        };
        [Some(of_qkv.into_dispatch())]
    }
}
