//! The pre-norm transformer that both towers share.
//!
//! Source: open_clip `ResidualAttentionBlock` and `Transformer`.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};
use couplet_kernels::{Half, residual_attention, residual_mlp};

use crate::attention::Attention;
use crate::init::{Initializer, inverse_sqrt};
use crate::layers::{LayerNorm, Linear};
use crate::lora::VisitLayers;
use crate::precision::{Precision, widen};
use crate::spec::{Activation, TextTowerSpec, VitSpec};
use crate::tensors::dense;
use crate::token::Token;
use crate::weight_draws::{BlockStd, weight};

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
    ls_1: Option<LayerScale>,
    ln_2: LayerNorm,
    mlp: Mlp,
    ls_2: Option<LayerScale>,
}

/// A learned gain of each channel of a residual branch.
#[derive(Module, Debug)]
struct LayerScale {
    gamma: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
pub(crate) struct Mlp {
    c_fc: Linear,
    c_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

/// The sizes and settings that all blocks of a tower share.
pub(crate) struct BlockSpec {
    pub width: usize,
    layers: usize,
    pub heads: usize,
    mlp_width: usize,
    activation: Activation,
    pub norm_eps: f64,
    layer_scale: Option<f64>,
}

impl BlockSpec {
    /// - activation: the model's, for a tower that does not name its own.
    pub fn from_vit(spec: &VitSpec, activation: Activation) -> Self {
        Self {
            width: spec.width,
            layers: spec.layers,
            heads: spec.heads,
            mlp_width: spec.mlp_width(),
            activation: spec.activation.unwrap_or(activation),
            norm_eps: spec.norm_eps,
            layer_scale: spec.layer_scale,
        }
    }

    /// - activation: the model's, for a tower that does not name its own.
    pub fn from_text(spec: &TextTowerSpec, activation: Activation) -> Self {
        Self {
            width: spec.width,
            layers: spec.layers,
            heads: spec.heads,
            mlp_width: spec.mlp_width(),
            activation: spec.activation.unwrap_or(activation),
            norm_eps: spec.norm_eps,
            layer_scale: spec.layer_scale,
        }
    }
}

impl Transformer {
    /// All initialisation rules of the blocks. `std` is `None` for PyTorch's defaults.
    /// - prefix: open_clip's name of this module, which seeds the draws.
    pub fn init(
        spec: &BlockSpec,
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

    /// Every token, after all blocks from `first` on.
    /// - x: `[batch, tokens, width]`; returns the same shape.
    /// - mask: added to the attention scores, `[1, 1, tokens, tokens]`.
    pub fn forward(
        &self,
        first: usize,
        x: Tensor<3>,
        mask: Option<&Tensor<4>>,
        precision: Precision,
    ) -> Tensor<3> {
        let blocks = self.resblocks.iter().skip(first);
        blocks.fold(x, |x, block| block.forward(x, mask, precision))
    }

    /// The output of block `at`; x and output are `[batch, tokens, width]`.
    pub fn block(
        &self,
        at: usize,
        x: Tensor<3>,
        mask: Option<&Tensor<4>>,
        precision: Precision,
    ) -> Tensor<3> {
        self.resblocks[at].forward(x, mask, precision)
    }

    /// One token of each sequence, after all blocks from `first` on. Nothing reads the last block's
    /// other tokens, so it computes that one alone: the same features and gradients for less work.
    /// - x: `[batch, tokens, width]`.
    /// - mask: added to the attention scores, `[1, 1, tokens, tokens]`.
    /// - returns `[batch, width]`.
    pub fn forward_token(
        &self,
        first: usize,
        mut x: Tensor<3>,
        token: &Token,
        mask: Option<&Tensor<4>>,
        precision: Precision,
    ) -> Tensor<2> {
        let Some((last, before)) = self.resblocks.split_last() else {
            return token.pick(x).squeeze_dim(1);
        };
        for block in before.iter().skip(first) {
            x = block.forward(x, mask, precision);
        }
        last.forward_token(x, token, mask, precision)
    }

    /// - name: open_clip's of this module.
    pub fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        for (at, block) in self.resblocks.iter_mut().enumerate() {
            let name = format!("{name}.resblocks.{at}");
            block.attn.visit_layers(&format!("{name}.attn"), visit);
            block.mlp.visit_layers(&format!("{name}.mlp"), visit);
        }
    }
}

impl ResidualAttentionBlock {
    fn init(spec: &BlockSpec, std: Option<&BlockStd>, name: &str, init: &Initializer) -> Self {
        let w = spec.width;
        let layer_scale = || {
            let gain = spec.layer_scale?;
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            let gamma = init.constant([w], gain as f32);
            Some(LayerScale { gamma })
        };
        Self {
            ln_1: LayerNorm::init(w, spec.norm_eps, init),
            ls_1: layer_scale(),
            ls_2: layer_scale(),
            attn: Attention::init(w, spec.heads, std, &format!("{name}.attn"), init),
            ln_2: LayerNorm::init(w, spec.norm_eps, init),
            mlp: Mlp::init(spec, std, &format!("{name}.mlp"), init),
        }
    }

    fn forward(&self, x: Tensor<3>, mask: Option<&Tensor<4>>, precision: Precision) -> Tensor<3> {
        let dtype = precision.of_products(&x);
        if self.ls_1.is_none()
            && let Some(half) = self.attn.half(&self.ln_1, dtype)
        {
            let x = residual_attention(x, half, self.attn.heads, mask);
            return self.add_mlp(x, precision);
        }
        let normed = self.ln_1.forward_narrow(x.clone(), precision);
        let attended = self.attn.forward(normed, mask, precision);
        self.add_branches(x, attended, precision)
    }

    /// - returns `[batch, width]`.
    fn forward_token(
        &self,
        x: Tensor<3>,
        token: &Token,
        mask: Option<&Tensor<4>>,
        precision: Precision,
    ) -> Tensor<2> {
        let normed = self.ln_1.forward_narrow(x.clone(), precision);
        let attended = self.attn.forward_token(normed, token, mask, precision);
        self.add_branches(token.pick(x), attended, precision)
            .squeeze_dim(1)
    }

    fn add_branches(&self, x: Tensor<3>, attended: Tensor<3>, precision: Precision) -> Tensor<3> {
        let x = add_branch(x, attended, self.ls_1.as_ref());
        self.add_mlp(x, precision)
    }

    fn add_mlp(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        if self.ls_2.is_none() {
            return self.mlp.residual(x, &self.ln_2, precision);
        }
        let normed = self.ln_2.forward_narrow(x.clone(), precision);
        let hidden = self.mlp.forward(normed, precision);
        add_branch(x, hidden, self.ls_2.as_ref())
    }
}

/// Adds a residual branch, scaled in f32 at least.
fn add_branch(x: Tensor<3>, branch: Tensor<3>, scale: Option<&LayerScale>) -> Tensor<3> {
    match scale {
        Some(scale) => x + widen(branch) * scale.gamma.val().unsqueeze(),
        None => couplet_kernels::add_branch(x, branch),
    }
}

/// Minus infinity above the diagonal, else 0: `[1, 1, tokens, tokens]`.
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
    dense(values, [1, 1, tokens, tokens], device)
}

impl Mlp {
    /// - name: open_clip's name of this module, which seeds the draws.
    pub fn init(spec: &BlockSpec, std: Option<&BlockStd>, name: &str, init: &Initializer) -> Self {
        let (w, hidden) = (spec.width, spec.mlp_width);
        let bias = |part: &str, size: usize, fan_in: usize| {
            if std.is_some_and(|std| std.zero_biases) {
                return init.constant([size], 0.0);
            }
            init.uniform(&format!("{name}.{part}.bias"), [size], inverse_sqrt(fan_in))
        };
        let linear = |part: &str, [inputs, outputs]: [usize; 2], std: Option<f32>| Linear {
            weight: weight(
                &format!("{name}.{part}.weight"),
                [outputs, inputs],
                std,
                inverse_sqrt(inputs),
                init,
            ),
            bias: bias(part, outputs, inputs),
            lora: None,
        };
        Self {
            c_fc: linear("c_fc", [w, hidden], std.map(|std| std.mlp_in)),
            c_proj: linear("c_proj", [hidden, w], std.map(|std| std.residual_out)),
            activation: spec.activation,
        }
    }

    /// `x + mlp(norm(x))`.
    pub fn residual(&self, x: Tensor<3>, norm: &LayerNorm, precision: Precision) -> Tensor<3> {
        if let Some(half) = self.half(norm, precision.of_products(&x)) {
            return residual_mlp(x, half, self.activation.kernel());
        }
        let normed = norm.forward_narrow(x.clone(), precision);
        couplet_kernels::add_branch(x, self.forward(normed, precision))
    }

    pub fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let hidden = self.c_fc.forward(x, precision);
        let activated = self.activation.kernel().forward(hidden);
        self.c_proj.forward(activated, precision)
    }

    /// - norm: before it; dtype: in which is multiplied.
    /// - returns `None` if a layer has an update.
    fn half(&self, norm: &LayerNorm, dtype: DType) -> Option<Half> {
        Some(Half {
            norm: norm.kernel(),
            layers: [self.c_fc.kernel()?, self.c_proj.kernel()?],
            dtype,
        })
    }

    pub fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        self.c_fc.visit_layers(&format!("{name}.c_fc"), visit);
        self.c_proj.visit_layers(&format!("{name}.c_proj"), visit);
    }
}
