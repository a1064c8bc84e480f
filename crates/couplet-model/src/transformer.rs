//! The pre-norm transformer that both towers share.
//!
//! Source: open_clip `ResidualAttentionBlock` and `Transformer`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::Activation;
use crate::init::{Initializer, inverse_sqrt};
use crate::layers::{LayerNorm, Linear, linear};

/// A stack of residual attention blocks.
#[derive(Module, Debug)]
pub(crate) struct Transformer {
    pub resblocks: Vec<ResidualAttentionBlock>,
}

/// `x + attn(ln_1(x))`, then `x + mlp(ln_2(x))`.
#[derive(Module, Debug)]
pub(crate) struct ResidualAttentionBlock {
    ln_1: LayerNorm,
    attn: Attention,
    ln_2: LayerNorm,
    mlp: Mlp,
}

/// Multi-head self-attention with PyTorch's packed input projection.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    in_proj_weight: Param<Tensor<2>>,
    in_proj_bias: Param<Tensor<1>>,
    out_proj: Linear,
    heads: usize,
}

#[derive(Module, Debug)]
pub(crate) struct Mlp {
    c_fc: Linear,
    c_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

/// Standard deviations of the normal draws, where a tower does not leave PyTorch's
/// defaults as they are.
pub(crate) struct BlockStd {
    pub attn_in: f32,
    pub residual_out: f32,
    pub mlp_in: f32,
}

/// Sizes of a transformer.
pub(crate) struct TransformerSpec {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub mlp_width: usize,
    pub activation: Activation,
}

impl Transformer {
    /// All initialisation rules of the blocks. `std` is `None` for PyTorch's defaults.
    /// - prefix: open_clip's name of this module, which seeds the draws.
    pub fn init(
        spec: &TransformerSpec,
        std: Option<&BlockStd>,
        prefix: &str,
        init: &Initializer,
    ) -> Self {
        let resblocks = (0..spec.layers)
            .map(|layer| {
                ResidualAttentionBlock::init(spec, std, &format!("{prefix}.resblocks.{layer}"), init)
            })
            .collect();
        Self { resblocks }
    }

    /// - x: `[batch, tokens, width]`; returns the same shape.
    /// - mask: added to the attention scores, `[1, 1, tokens, tokens]`.
    pub fn forward(&self, mut x: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        for block in &self.resblocks {
            x = block.forward(x, mask);
        }
        x
    }
}

impl ResidualAttentionBlock {
    fn init(
        spec: &TransformerSpec,
        std: Option<&BlockStd>,
        name: &str,
        init: &Initializer,
    ) -> Self {
        let (w, hidden) = (spec.width, spec.mlp_width);
        let layer_norm = || LayerNorm {
            weight: init.constant([w], 1.0),
            bias: init.constant([w], 0.0),
        };
        let weight = |part: &str, shape: [usize; 2], std: Option<f32>, bound: f32| {
            let name = format!("{name}.{part}");
            match std {
                Some(std) => init.normal(&name, shape, std),
                None => init.uniform(&name, shape, bound),
            }
        };
        let mlp_bias = |part: &str, size: usize, fan_in: usize| {
            init.uniform(&format!("{name}.{part}"), [size], inverse_sqrt(fan_in))
        };
        // Xavier's uniform bound over fan_in + fan_out = w + 3w.
        let xavier = (6.0f32).sqrt() * inverse_sqrt(4 * w);
        Self {
            ln_1: layer_norm(),
            attn: Attention {
                in_proj_weight: weight(
                    "attn.in_proj_weight",
                    [3 * w, w],
                    std.map(|s| s.attn_in),
                    xavier,
                ),
                in_proj_bias: init.constant([3 * w], 0.0),
                out_proj: Linear {
                    weight: weight(
                        "attn.out_proj.weight",
                        [w, w],
                        std.map(|s| s.residual_out),
                        inverse_sqrt(w),
                    ),
                    bias: init.constant([w], 0.0),
                },
                heads: spec.heads,
            },
            ln_2: layer_norm(),
            mlp: Mlp {
                c_fc: Linear {
                    weight: weight(
                        "mlp.c_fc.weight",
                        [hidden, w],
                        std.map(|s| s.mlp_in),
                        inverse_sqrt(w),
                    ),
                    bias: mlp_bias("mlp.c_fc.bias", hidden, w),
                },
                c_proj: Linear {
                    weight: weight(
                        "mlp.c_proj.weight",
                        [w, hidden],
                        std.map(|s| s.residual_out),
                        inverse_sqrt(hidden),
                    ),
                    bias: mlp_bias("mlp.c_proj.bias", w, hidden),
                },
                activation: spec.activation,
            },
        }
    }

    fn forward(&self, x: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.ln_1.forward(x), mask);
        x.clone() + self.mlp.forward(self.ln_2.forward(x))
    }
}

impl Attention {
    fn forward(&self, x: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let head_width = width / self.heads;
        let qkv = linear(x, &self.in_proj_weight, Some(&self.in_proj_bias))
            .reshape([batch, tokens, 3 * self.heads, head_width])
            .swap_dims(1, 2);
        let part = |i: usize| qkv.clone().narrow(1, i * self.heads, self.heads);
        let attended = attention(part(0), part(1), part(2), mask)
            .swap_dims(1, 2)
            .reshape([batch, tokens, width]);
        self.out_proj.forward(attended)
    }
}

/// Scaled dot-product attention; the one place that decides how it is computed.
/// - q, k, v: `[batch, heads, tokens, head_width]`; returns the same shape.
/// - mask: added to the scores, `[1, 1, tokens, tokens]`.
fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<4> {
    let scale = inverse_sqrt(q.dims()[3]);
    let mut scores_bhqk = q.mul_scalar(scale).matmul(k.swap_dims(2, 3));
    if let Some(mask) = mask {
        scores_bhqk = scores_bhqk + mask.clone();
    }
    activation::softmax(scores_bhqk, 3).matmul(v)
}

/// Minus infinity where a token would look ahead, else 0: `[1, 1, tokens, tokens]`.
pub(crate) fn causal_mask(tokens: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..tokens * tokens)
        .map(|at| if at % tokens > at / tokens { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    Tensor::from_data(TensorData::new(values, [1, 1, tokens, tokens]), device)
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = self.c_fc.forward(x);
        let hidden = match self.activation {
            Activation::Gelu => activation::gelu(hidden),
            Activation::QuickGelu => hidden.clone() * activation::sigmoid(hidden.mul_scalar(1.702)),
        };
        self.c_proj.forward(hidden)
    }
}
