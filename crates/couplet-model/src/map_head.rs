//! SigLIP's MAP head. Source: timm `AttentionPoolLatent`, transformers
//! `SiglipMultiheadAttentionPoolingHead`.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::attention::Attention;
use crate::init::{Initializer, inverse_sqrt};
use crate::layers::LayerNorm;
use crate::lora::VisitLayers;
use crate::precision::{Precision, widen};
use crate::transformer::{BlockSpec, Mlp};
use crate::weight_draws::BlockStd;

/// A learned query over all tokens, `y = attn(probe, x)`, then `y + mlp(norm(y))`.
#[derive(Module, Debug)]
pub(crate) struct MapHead {
    /// `[1, 1, width]`
    probe: Param<Tensor<3>>,
    attn: Attention,
    norm: LayerNorm,
    mlp: Mlp,
}

impl MapHead {
    /// The query N(0, width^-½), everything else as in the tower's blocks.
    /// - name: seeds the draws.
    pub fn init(spec: &BlockSpec, std: &BlockStd, name: &str, init: &Initializer) -> Self {
        let w = spec.width;
        let probe = init.normal(&format!("{name}.probe"), [1, 1, w], inverse_sqrt(w));
        Self {
            probe,
            attn: Attention::init(w, spec.heads, Some(std), &format!("{name}.attn"), init),
            norm: LayerNorm::init(w, spec.norm_eps, init),
            mlp: Mlp::init(spec, Some(std), &format!("{name}.mlp"), init),
        }
    }

    /// - x: normalised tokens, `[batch, tokens, width]`; returns `[batch, width]`.
    pub fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<2> {
        let attended = (self.attn).forward_query(self.probe.val(), x, precision);
        let pooled = self.mlp.residual(widen(attended), &self.norm, precision);
        pooled.squeeze_dim(1)
    }

    /// The layers of the MLP: the attention's are one module in PyTorch, which PEFT does not adapt.
    pub fn visit_layers(&mut self, name: &str, visit: &mut VisitLayers) {
        self.mlp.visit_layers(&format!("{name}.mlp"), visit);
    }
}
