//! The pre-norm transformer that both towers share.
//!
//! Source: open_clip `ResidualAttentionBlock` and `Transformer`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, activation, module};

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
                ResidualAttentionBlock::init(
                    spec,
                    std,
                    &format!("{prefix}.resblocks.{layer}"),
                    init,
                )
            })
            .collect();
        Self { resblocks }
    }

    /// One token of each sequence, after all blocks. Nothing reads the other tokens of
    /// the last block, so it serves that one alone: the same features and gradients for
    /// less work.
    /// - x: `[batch, tokens, width]`.
    /// - mask: added to the attention scores, `[1, 1, tokens, tokens]`.
    /// - returns `[batch, width]`.
    pub fn forward_token(
        &self,
        mut x: Tensor<3>,
        token: &Token,
        mask: Option<&Tensor<4>>,
    ) -> Tensor<2> {
        let Some((last, before)) = self.resblocks.split_last() else {
            return token.pick(x).squeeze_dim(1);
        };
        for block in before {
            x = block.forward(x, mask);
        }
        last.forward_token(x, token, mask)
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
            ln_1: LayerNorm::init(w, init),
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
            ln_2: LayerNorm::init(w, init),
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

    /// - returns `[batch, width]`.
    fn forward_token(&self, x: Tensor<3>, token: &Token, mask: Option<&Tensor<4>>) -> Tensor<2> {
        let attended = self
            .attn
            .forward_token(self.ln_1.forward(x.clone()), token, mask);
        let x = token.pick(x) + attended;
        (x.clone() + self.mlp.forward(self.ln_2.forward(x))).squeeze_dim(1)
    }
}

/// Which token of a sequence pools it.
#[expect(clippy::large_enum_variant, reason = "made once a forward pass")]
pub(crate) enum Token {
    /// The first of every sequence.
    First,
    /// Of each sequence its own, `[batch]`.
    At(Tensor<1, Int>),
}

impl Token {
    /// - x: `[batch, tokens, width]`; returns `[batch, 1, width]`.
    fn pick(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        match self {
            Self::First => x.narrow(1, 0, 1),
            Self::At(token_b) => {
                let rows = i64::try_from(batch * tokens).expect("a batch's tokens fit in i64");
                let options = (&x.device(), token_b.dtype());
                let first_b = Tensor::<1, Int>::arange_step(0..rows, tokens, options);
                x.reshape([batch * tokens, width])
                    .select(0, first_b + token_b.clone())
                    .reshape([batch, 1, width])
            }
        }
    }

    /// The mask's row of each sequence's token, `[batch or 1, 1, 1, tokens]`.
    fn pick_mask(&self, mask: &Tensor<4>) -> Tensor<4> {
        let tokens = mask.dims()[3];
        match self {
            Self::First => mask.clone().narrow(2, 0, 1),
            Self::At(token_b) => {
                let batch = token_b.dims()[0];
                let rows = mask.clone().reshape([tokens, tokens]);
                rows.select(0, token_b.clone())
                    .reshape([batch, 1, 1, tokens])
            }
        }
    }
}

impl Attention {
    /// The attention's output for one token of each sequence.
    /// - x: `[batch, tokens, width]`; returns `[batch, 1, width]`.
    fn forward_token(&self, x: Tensor<3>, token: &Token, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let [batch, _, width] = x.dims();
        let heads = |x: Tensor<3>, parts: usize| -> Tensor<4> {
            let [_, tokens, _] = x.dims();
            x.reshape([batch, tokens, parts * self.heads, width / self.heads])
                .swap_dims(1, 2)
        };
        let project = |x: Tensor<3>, from: usize, parts: usize| -> Tensor<3> {
            let weight = self
                .in_proj_weight
                .val()
                .narrow(0, from * width, parts * width);
            let bias = self
                .in_proj_bias
                .val()
                .narrow(0, from * width, parts * width);
            module::linear(x, weight.transpose(), Some(bias))
        };
        let q = heads(project(token.pick(x.clone()), 0, 1), 1);
        let kv = heads(project(x, 1, 2), 2);
        let (k, v) = (
            kv.clone().narrow(1, 0, self.heads),
            kv.narrow(1, self.heads, self.heads),
        );
        let mask = mask.map(|mask| token.pick_mask(mask));
        let attended = attention(q, k, v, mask.as_ref())
            .swap_dims(1, 2)
            .reshape([batch, 1, width]);
        self.out_proj.forward(attended)
    }

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
/// - q: `[batch, heads, queries, head_width]`; returns the same shape.
/// - k, v: `[batch, heads, tokens, head_width]`.
/// - mask: added to the scores, `[batch or 1, 1, queries, tokens]`.
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
        .map(|at| {
            if at % tokens > at / tokens {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
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
