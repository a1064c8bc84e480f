//! ModernBERT as text tower. Source: transformers `ModernBertModel`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use couplet_kernels::{add_branch, attention, layer_norm, merge_heads, split_heads};

use crate::init::Initializer;
use crate::lora::{self, Adapter, VisitLayers};
use crate::padding::{HIDDEN, mean_of_tokens, padding_mask};
use crate::precision::{Precision, widen};
use crate::product::linear;
use crate::spec::{Activation, TextEncoder, TextPool, TextTowerSpec};
use crate::tensors::dense;
use crate::text_parts::{Projection, TokenEmbedding};
use crate::token::Token;
use crate::tokens::Tokens;

/// Standard deviation of the draws of weights that do not write to the residual stream.
const STD: f32 = 0.02;

/// A normalised token embedding, blocks with rotary positions and gated MLPs, a norm, pooling, and a projection into
/// the joint space.
#[derive(Module, Debug)]
pub struct ModernBertText {
    token_embedding: TokenEmbedding,
    ln_embed: Gain,
    transformer: ModernBlocks,
    ln_final: Gain,
    text_projection: Option<Projection>,
    #[module(skip)]
    pad_id: u32,
    #[module(skip)]
    pool: TextPool,
    #[module(skip)]
    reach: Reach,
}

/// How far blocks look, and the bases of their rotary frequencies.
#[derive(Debug, Clone, Copy)]
struct Reach {
    global_every: usize,
    /// Tokens that a local block looks at on each side.
    side: usize,
    global_theta: f64,
    local_theta: f64,
}

#[derive(Module, Debug)]
struct ModernBlocks {
    resblocks: Vec<ModernBlock>,
}

/// `y = x + attn(ln_1(x))`, then `y + mlp(ln_2(y))`; the first block has no `ln_1`.
#[derive(Module, Debug)]
struct ModernBlock {
    ln_1: Option<Gain>,
    attn: RotaryAttention,
    ln_2: Gain,
    mlp: GatedMlp,
}

/// A layer norm without bias.
#[derive(Module, Debug)]
struct Gain {
    weight: Param<Tensor<1>>,
    eps: f64,
}

#[derive(Module, Debug)]
struct RotaryAttention {
    in_proj_weight: Param<Tensor<2>>,
    qkv_proj: Adapter,
    out_proj_weight: Param<Tensor<2>>,
    out_proj: Adapter,
    heads: usize,
}

#[derive(Module, Debug)]
struct GatedMlp {
    /// What is activated, then the gates: `[2 * hidden, width]`.
    c_fc_weight: Param<Tensor<2>>,
    c_fc: Adapter,
    c_proj_weight: Param<Tensor<2>>,
    c_proj: Adapter,
    #[module(skip)]
    activation: Activation,
}

/// What a block reads but its input.
struct Surroundings {
    /// Added to scores, `[batch, 1, tokens or 1, tokens]`.
    mask: Tensor<4>,
    /// Of the positions' angles, `[1, 1, tokens, head_width]`.
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl ModernBertText {
    /// All initialisation rules: N(0, 0.02), and weights that write to the residual stream divided by the root of twice
    /// the number of blocks. Source: transformers `ModernBertPreTrainedModel._init_weights`, without its cut-off.
    pub(crate) fn init(
        spec: &TextTowerSpec,
        embed_dim: usize,
        activation: Activation,
        init: &Initializer,
    ) -> Self {
        let TextEncoder::ModernBert {
            global_every,
            local_window,
            global_theta,
            local_theta,
            ..
        } = spec.encoder
        else {
            unreachable!("this tower is built for its own encoder");
        };
        let activation = spec.activation.unwrap_or(activation);
        let gain = || Gain::init(spec, init);
        let block = |at| ModernBlock::init(spec, activation, at, init);
        Self {
            token_embedding: TokenEmbedding::init(spec, init),
            ln_embed: gain(),
            transformer: ModernBlocks {
                resblocks: (0..spec.layers).map(block).collect(),
            },
            ln_final: gain(),
            text_projection: Projection::init(spec, embed_dim, init),
            pad_id: spec.pad_id,
            pool: spec.pool,
            reach: Reach {
                global_every,
                side: local_window / 2,
                global_theta,
                local_theta,
            },
        }
    }

    pub(crate) fn trained_vocabulary(&self) -> Option<usize> {
        self.token_embedding.trained_vocabulary()
    }

    /// The input of the first block, `[batch, tokens, width]`.
    pub(crate) fn stem(&self, tokens: &Tokens) -> Tensor<3> {
        self.ln_embed.forward(self.token_embedding.forward(tokens))
    }

    /// The output of block `at`; x and output are `[batch, tokens, width]`.
    pub(crate) fn block(
        &self,
        at: usize,
        x: Tensor<3>,
        ids: &Tensor<2, Int>,
        precision: Precision,
    ) -> Tensor<3> {
        let around = self.surroundings(at, &x, ids);
        self.transformer.resblocks[at].forward(x, &around, precision)
    }

    /// The blocks from `first` on, the last norm, pooling and the projection.
    /// - x: `[batch, tokens, width]`; returns `[batch, embed_dim]`.
    pub(crate) fn head(
        &self,
        first: usize,
        x: Tensor<3>,
        ids: &Tensor<2, Int>,
        precision: Precision,
    ) -> Tensor<2> {
        let blocks = self.transformer.resblocks.iter().enumerate().skip(first);
        // Blocks are global or local: each kind's surroundings are made once.
        let mut around: [Option<Surroundings>; 2] = [None, None];
        let x = blocks.fold(x, |x, (at, block)| {
            let kind = &mut around[usize::from(self.is_global(at))];
            let around = kind.get_or_insert_with(|| self.surroundings(at, &x, ids));
            block.forward(x, around, precision)
        });
        let x = self.ln_final.forward(x);
        let pooled = match self.pool {
            TextPool::Mean => mean_of_tokens(x, ids, self.pad_id),
            _ => Token::First.pick(x).squeeze_dim(1),
        };
        Projection::apply(self.text_projection.as_ref(), pooled, precision)
    }

    pub(crate) fn visit_layers(&mut self, visit: &mut VisitLayers) {
        for (at, ModernBlock { attn, mlp, .. }) in self.transformer.resblocks.iter_mut().enumerate()
        {
            let block = format!("transformer.resblocks.{at}");
            let (in_proj, out_proj) = (&mut attn.in_proj_weight, &mut attn.out_proj_weight);
            let (c_fc, c_proj) = (&mut mlp.c_fc_weight, &mut mlp.c_proj_weight);
            for (layer, of_weight, weight, adapter) in [
                ("attn.qkv_proj", "attn.in_proj", in_proj, &mut attn.qkv_proj),
                (
                    "attn.out_proj",
                    "attn.out_proj",
                    out_proj,
                    &mut attn.out_proj,
                ),
                ("mlp.c_fc", "mlp.c_fc", c_fc, &mut mlp.c_fc),
                ("mlp.c_proj", "mlp.c_proj", c_proj, &mut mlp.c_proj),
            ] {
                let name = format!("{block}.{layer}");
                let of_weight = format!("{block}.{of_weight}_weight");
                lora::visit_whole(&name, of_weight, weight, &mut adapter.lora, visit);
            }
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.transformer.resblocks.len()
    }

    fn is_global(&self, at: usize) -> bool {
        at.is_multiple_of(self.reach.global_every)
    }

    /// What block `at` reads but its input, `x`.
    fn surroundings(&self, at: usize, x: &Tensor<3>, ids: &Tensor<2, Int>) -> Surroundings {
        let [_, tokens, width] = x.dims();
        let head_width = width / self.transformer.resblocks[at].attn.heads;
        let padding = padding_mask(ids, self.pad_id, x);
        let (mask, theta) = if self.is_global(at) {
            (padding, self.reach.global_theta)
        } else {
            let window = window_mask(tokens, self.reach.side, &x.device()).cast(x.dtype());
            let both = (padding + window).clamp_min(HIDDEN);
            (both, self.reach.local_theta)
        };
        let [cos, sin] = angles(tokens, head_width, theta, &x.device());
        Surroundings { mask, cos, sin }
    }
}

/// Hides the tokens that are more than `side` away: `[1, 1, tokens, tokens]`.
fn window_mask(tokens: usize, side: usize, device: &Device) -> Tensor<4> {
    let values = (0..tokens * tokens).map(|at| {
        if (at / tokens).abs_diff(at % tokens) > side {
            HIDDEN
        } else {
            0.0
        }
    });
    dense(values.collect(), [1, 1, tokens, tokens], device)
}

/// Cosine and sine of each position's angles, `[tokens, head_width]`. Computed in f32, as in transformers.
/// - theta: the base of the frequencies.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "positions and widths are small; weights are f32"
)]
pub fn rotary_angles(tokens: usize, head_width: usize, theta: f64) -> [Vec<f32>; 2] {
    let half = head_width / 2;
    let frequency = |at: usize| 1.0 / (theta as f32).powf((2 * at) as f32 / head_width as f32);
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let values = |of: fn(f32) -> f32| {
        let row = |position: usize| {
            let angles = frequencies.iter().map(move |one| of(position as f32 * one));
            angles.clone().chain(angles).collect::<Vec<_>>()
        };
        (0..tokens).flat_map(row).collect()
    };
    [values(f32::cos), values(f32::sin)]
}

/// The same on a device, `[1, 1, tokens, head_width]`.
fn angles(tokens: usize, head_width: usize, theta: f64, device: &Device) -> [Tensor<4>; 2] {
    let shape = [1, 1, tokens, head_width];
    rotary_angles(tokens, head_width, theta).map(|values| dense(values, shape, device))
}

/// - x: queries or keys, `[batch, heads, tokens, head_width]`; returns the same shape and dtype.
fn rotate(x: Tensor<4>, around: &Surroundings) -> Tensor<4> {
    let dtype = x.dtype();
    let x = widen(x);
    let half = x.dims()[3] / 2;
    let (first, second) = (
        x.clone().narrow(3, 0, half),
        x.clone().narrow(3, half, half),
    );
    let turned = Tensor::cat(vec![second.neg(), first], 3);
    let [cos, sin] = [&around.cos, &around.sin].map(|part| part.clone().cast(x.dtype()));
    (x * cos + turned * sin).cast(dtype)
}

impl ModernBlock {
    fn init(spec: &TextTowerSpec, activation: Activation, at: usize, init: &Initializer) -> Self {
        let (w, hidden) = (spec.width, spec.mlp_width());
        #[expect(clippy::cast_precision_loss, reason = "layers are far below 2^24")]
        let out = STD / (2.0 * spec.layers as f32).sqrt();
        let weight = |part: &str, shape: [usize; 2], std: f32| {
            init.normal(&format!("transformer.resblocks.{at}.{part}"), shape, std)
        };
        Self {
            ln_1: (at > 0).then(|| Gain::init(spec, init)),
            attn: RotaryAttention {
                in_proj_weight: weight("attn.in_proj_weight", [3 * w, w], STD),
                qkv_proj: Adapter::NONE,
                out_proj_weight: weight("attn.out_proj_weight", [w, w], out),
                out_proj: Adapter::NONE,
                heads: spec.heads,
            },
            ln_2: Gain::init(spec, init),
            mlp: GatedMlp {
                c_fc_weight: weight("mlp.c_fc_weight", [2 * hidden, w], STD),
                c_fc: Adapter::NONE,
                c_proj_weight: weight("mlp.c_proj_weight", [w, hidden], out),
                c_proj: Adapter::NONE,
                activation,
            },
        }
    }

    fn forward(&self, x: Tensor<3>, around: &Surroundings, precision: Precision) -> Tensor<3> {
        let normed = match &self.ln_1 {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let x = add_branch(x, self.attn.forward(normed, around, precision));
        let normed = self.ln_2.forward(x.clone());
        add_branch(x, self.mlp.forward(normed, precision))
    }
}

/// A linear layer without bias, with its update.
fn adapted(
    x: Tensor<3>,
    weight: &Param<Tensor<2>>,
    adapter: &Adapter,
    precision: Precision,
) -> Tensor<3> {
    let y = linear(x.clone(), weight.val(), None, precision);
    lora::update(y, x, adapter.lora.as_ref(), precision)
}

impl RotaryAttention {
    fn forward(&self, x: Tensor<3>, around: &Surroundings, precision: Precision) -> Tensor<3> {
        let qkv = adapted(x, &self.in_proj_weight, &self.qkv_proj, precision);
        let qkv = split_heads(qkv, 3 * self.heads);
        let part = |at: usize| qkv.clone().narrow(1, at * self.heads, self.heads);
        let (q, k) = (rotate(part(0), around), rotate(part(1), around));
        let attended = merge_heads(attention(q, k, part(2), Some(&around.mask)));
        adapted(attended, &self.out_proj_weight, &self.out_proj, precision)
    }
}

impl GatedMlp {
    fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let both = adapted(x, &self.c_fc_weight, &self.c_fc, precision);
        let hidden = both.dims()[2] / 2;
        let (input, gate) = (
            both.clone().narrow(2, 0, hidden),
            both.narrow(2, hidden, hidden),
        );
        let gated = self.activation.kernel().forward(input) * gate;
        adapted(gated, &self.c_proj_weight, &self.c_proj, precision)
    }
}

impl Gain {
    fn init(spec: &TextTowerSpec, init: &Initializer) -> Self {
        Self {
            weight: init.constant([spec.width], 1.0),
            eps: spec.norm_eps,
        }
    }

    /// - x: `[batch, tokens, width]`; returns the same shape.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = self.weight.val();
        let bias = Tensor::zeros([weight.dims()[0]], (&weight.device(), weight.dtype()));
        layer_norm(x, weight, bias, self.eps)
    }
}
