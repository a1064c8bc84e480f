//! The towers' attention modules.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use couplet_kernels::{Half, LinearLayer, attention, merge_heads, self_attention, split_heads};

use crate::init::{Initializer, inverse_sqrt};
use crate::layers::{LayerNorm, Linear};
use crate::lora::{self, Adaptable, Adapter, Lora, VisitLayers};
use crate::precision::{Precision, widen};
use crate::product::linear;
use crate::spec::AttentionPoolSpec;
use crate::token::Token;
use crate::weight_draws::{BlockStd, weight};

/// Multi-head self-attention with PyTorch's packed input projection.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    pub in_proj_weight: Param<Tensor<2>>,
    pub in_proj_bias: Param<Tensor<1>>,
    /// Updates of the parts of the input projection.
    q_proj: Adapter,
    k_proj: Adapter,
    v_proj: Adapter,
    pub out_proj: Linear,
    pub heads: usize,
}

impl Attention {
    /// - std: of the tower's normal draws; `None` for PyTorch's defaults.
    /// - name: open_clip's name of this module, which seeds the draws.
    pub fn init(
        width: usize,
        heads: usize,
        std: Option<&BlockStd>,
        name: &str,
        init: &Initializer,
    ) -> Self {
        // Xavier's uniform bound over fan_in + fan_out = w + 3w.
        let xavier = (6.0f32).sqrt() * inverse_sqrt(4 * width);
        Self {
            in_proj_weight: weight(
                &format!("{name}.in_proj_weight"),
                [3 * width, width],
                std.map(|std| std.attn_in),
                xavier,
                init,
            ),
            in_proj_bias: init.constant([3 * width], 0.0),
            q_proj: Adapter::NONE,
            k_proj: Adapter::NONE,
            v_proj: Adapter::NONE,
            out_proj: Linear {
                weight: weight(
                    &format!("{name}.out_proj.weight"),
                    [width, width],
                    std.map(|std| std.residual_out),
                    inverse_sqrt(width),
                    init,
                ),
                bias: init.constant([width], 0.0),
                lora: None,
            },
            heads,
        }
    }

    /// The attention's output for one query that is the same for all sequences.
    /// - query: `[1, 1, width]`; x: `[batch, tokens, width]`; returns `[batch, 1, width]`.
    pub fn forward_query(&self, query: Tensor<3>, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let batch = x.dims()[0];
        let q = self.project(query, InProjection::Query, precision);
        let [_, heads, _, head_width] = q.dims();
        let q = q.expand([batch, heads, 1, head_width]);
        self.attend(q, x, None, precision)
    }

    /// - x: `[batch, tokens, width]`; returns the same shape.
    /// - mask: added to the scores, `[1, 1, tokens, tokens]`.
    pub fn forward(
        &self,
        x: Tensor<3>,
        mask: Option<&Tensor<4>>,
        precision: Precision,
    ) -> Tensor<3> {
        let (weight, bias) = (self.in_proj_weight.val(), self.in_proj_bias.val());
        let qkv = linear(x.clone(), weight, Some(bias), precision);
        let qkv = lora::update_parts(qkv, x, &self.updates(), precision);
        let attended = self_attention(qkv, self.heads, mask);
        self.out_proj.forward(attended, precision)
    }

    /// - norm: before it; dtype: in which is multiplied.
    /// - returns `None` if a layer has an update.
    pub fn half(&self, norm: &LayerNorm, dtype: DType) -> Option<Half> {
        if self.updates().iter().any(Option::is_some) {
            return None;
        }
        let input = LinearLayer {
            weight: self.in_proj_weight.val(),
            bias: self.in_proj_bias.val(),
        };
        Some(Half {
            norm: norm.kernel(),
            layers: [input, self.out_proj.kernel()?],
            dtype,
        })
    }

    fn updates(&self) -> [Option<&Lora>; 3] {
        [&self.q_proj, &self.k_proj, &self.v_proj].map(|part| part.lora.as_ref())
    }

    pub fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        let width = self.in_proj_weight.lazy_shape()[1];
        let parts = [
            ("q_proj", &mut self.q_proj),
            ("k_proj", &mut self.k_proj),
            ("v_proj", &mut self.v_proj),
        ];
        for (at, (part, adapter)) in parts.into_iter().enumerate() {
            let layer = Adaptable {
                weight: &mut self.in_proj_weight,
                weight_name: format!("{name}.in_proj_weight"),
                rows: at * width..(at + 1) * width,
                lora: &mut adapter.lora,
            };
            visit(&format!("{name}.{part}"), layer);
        }
        let name = format!("{name}.out_proj");
        self.out_proj.visit_layers(&name, visit);
    }

    /// The attention's output for one token of each sequence.
    /// - x: `[batch, tokens, width]`; returns `[batch, 1, width]`.
    pub fn forward_token(
        &self,
        x: Tensor<3>,
        token: &Token,
        mask: Option<&Tensor<4>>,
        precision: Precision,
    ) -> Tensor<3> {
        let q = self.project(token.pick(x.clone()), InProjection::Query, precision);
        let mask = mask.map(|mask| token.pick_mask(mask));
        self.attend(q, x, mask.as_ref(), precision)
    }

    /// - q: `[batch, heads, queries, head_width]`; x: of keys and values, `[batch, tokens, width]`.
    /// - returns `[batch, queries, width]`.
    fn attend(
        &self,
        q: Tensor<4>,
        x: Tensor<3>,
        mask: Option<&Tensor<4>>,
        precision: Precision,
    ) -> Tensor<3> {
        let kv = self.project(x, InProjection::KeyValue, precision);
        let (k, v) = (
            kv.clone().narrow(1, 0, self.heads),
            kv.narrow(1, self.heads, self.heads),
        );
        let attended = merge_heads(attention(q, k, v, mask));
        self.out_proj.forward(attended, precision)
    }

    fn project(&self, x: Tensor<3>, part: InProjection, precision: Precision) -> Tensor<4> {
        let width = x.dims()[2];
        let (from, parts) = match part {
            InProjection::Query => (0, 1),
            InProjection::KeyValue => (1, 2),
        };
        let weight = self
            .in_proj_weight
            .val()
            .narrow(0, from * width, parts * width);
        let bias = self
            .in_proj_bias
            .val()
            .narrow(0, from * width, parts * width);
        let y = linear(x.clone(), weight, Some(bias), precision);
        let updates = &self.updates()[from..from + parts];
        let y = lora::update_parts(y, x, updates, precision);
        split_heads(y, parts * self.heads)
    }
}

#[derive(Clone, Copy)]
enum InProjection {
    Query,
    KeyValue,
}

/// Learned queries over normalised tokens. Source: open_clip `AttentionalPooler`.
#[derive(Module, Debug)]
pub(crate) struct AttentionPool {
    /// `[queries, width]`
    query: Param<Tensor<2>>,
    attn: CrossAttention,
    ln_q: LayerNorm,
    ln_k: LayerNorm,
}

/// Multi-head attention whose keys and values may have a width of their own, under the
/// names of `torch.nn.MultiheadAttention`: packed if the widths are the same.
#[derive(Module, Debug)]
struct CrossAttention {
    in_proj_weight: Option<Param<Tensor<2>>>,
    q_proj_weight: Option<Param<Tensor<2>>>,
    k_proj_weight: Option<Param<Tensor<2>>>,
    v_proj_weight: Option<Param<Tensor<2>>>,
    in_proj_bias: Param<Tensor<1>>,
    out_proj: Linear,
    heads: usize,
}

impl AttentionPool {
    /// Queries N(0, 1), everything else PyTorch's defaults.
    /// - width: of queries and outputs; context_width: of the tokens.
    pub fn init(
        spec: AttentionPoolSpec,
        width: usize,
        context_width: usize,
        eps: f64,
        name: &str,
        init: &Initializer,
    ) -> Self {
        // Xavier's uniform bound over fan_in + fan_out.
        let xavier = |part: &str, outputs: usize, inputs: usize| {
            init.uniform(
                &format!("{name}.attn.{part}"),
                [outputs, inputs],
                6f32.sqrt() * inverse_sqrt(outputs + inputs),
            )
        };
        let packed = width == context_width;
        let separate = |part: &str, inputs: usize| (!packed).then(|| xavier(part, width, inputs));
        Self {
            query: init.normal(&format!("{name}.query"), [spec.queries, width], 1.0),
            attn: CrossAttention {
                in_proj_weight: packed.then(|| xavier("in_proj_weight", 3 * width, width)),
                q_proj_weight: separate("q_proj_weight", width),
                k_proj_weight: separate("k_proj_weight", context_width),
                v_proj_weight: separate("v_proj_weight", context_width),
                in_proj_bias: init.constant([3 * width], 0.0),
                out_proj: Linear {
                    weight: init.uniform(
                        &format!("{name}.attn.out_proj.weight"),
                        [width, width],
                        inverse_sqrt(width),
                    ),
                    bias: init.constant([width], 0.0),
                    lora: None,
                },
                heads: spec.heads,
            },
            ln_q: LayerNorm::init(width, eps, init),
            ln_k: LayerNorm::init(context_width, eps, init),
        }
    }

    /// - x: `[batch, tokens, context_width]`; returns `[batch, queries, width]`.
    pub fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let batch = x.dims()[0];
        let [queries, width] = self.query.dims();
        let query = self.ln_q.forward(self.query.val());
        let [q, k, v] = self
            .attn
            .project(query.unsqueeze(), self.ln_k.forward(x), precision);
        let head_width = width / self.attn.heads;
        let q = q.expand([batch, self.attn.heads, queries, head_width]);
        let attended = merge_heads(attention(q, k, v, None));
        widen(self.attn.out_proj.forward(attended, precision))
    }
}

impl CrossAttention {
    /// - query: `[1, queries, width]`; x: `[batch, tokens, context_width]`.
    /// - returns queries, keys and values by head, `[…, heads, …, head_width]`.
    fn project(&self, query: Tensor<3>, x: Tensor<3>, precision: Precision) -> [Tensor<4>; 3] {
        let width = query.dims()[2];
        let sources = [query, x.clone(), x];
        let separate = [
            &self.q_proj_weight,
            &self.k_proj_weight,
            &self.v_proj_weight,
        ];
        let mut parts = sources.into_iter().zip(separate).enumerate();
        std::array::from_fn(|_| {
            let (at, (source, weight)) = parts.next().expect("three parts");
            let weight = match (weight, &self.in_proj_weight) {
                (Some(weight), _) => weight.val(),
                (None, Some(packed)) => packed.val().narrow(0, at * width, width),
                (None, None) => unreachable!("init makes one or the other"),
            };
            let bias = self.in_proj_bias.val().narrow(0, at * width, width);
            split_heads(linear(source, weight, Some(bias), precision), self.heads)
        })
    }
}
