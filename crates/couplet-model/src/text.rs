//! The causal text tower. Source: open_clip `CLIP.encode_text`.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, module};

use crate::init::{Initializer, inverse_sqrt};
use crate::layers::LayerNorm;
use crate::transformer::{BlockStd, Token, Transformer, TransformerSpec, causal_mask};
use crate::{Activation, TextTowerSpec};

/// CLIP's text tower: token and position embeddings, causal blocks, and a projection
/// of the end-of-text token into the joint space.
#[derive(Module, Debug)]
pub struct TextTower {
    positional_embedding: Param<Tensor<2>>,
    transformer: Transformer,
    token_embedding: Embedding,
    ln_final: LayerNorm,
    text_projection: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
struct Embedding {
    /// `[vocab_size, width]`
    weight: Param<Tensor<2>>,
}

impl TextTower {
    /// All initialisation rules of the text tower.
    /// Source: open_clip `TextTransformer.init_parameters`.
    pub(crate) fn init(
        spec: &TextTowerSpec,
        embed_dim: usize,
        activation: Activation,
        init: &Initializer,
    ) -> Self {
        let w = spec.width;
        let std = BlockStd {
            attn_in: inverse_sqrt(w),
            residual_out: inverse_sqrt(w) * inverse_sqrt(2 * spec.layers),
            mlp_in: inverse_sqrt(2 * w),
        };
        Self {
            positional_embedding: init.normal(
                "positional_embedding",
                [spec.context_length, w],
                0.01,
            ),
            transformer: Transformer::init(
                &TransformerSpec {
                    width: w,
                    layers: spec.layers,
                    heads: spec.heads,
                    mlp_width: spec.mlp_width(),
                    activation,
                },
                Some(&std),
                "transformer",
                init,
            ),
            token_embedding: Embedding {
                weight: init.normal("token_embedding.weight", [spec.vocab_size, w], 0.02),
            },
            ln_final: LayerNorm::init(w, init),
            text_projection: init.normal("text_projection", [w, embed_dim], inverse_sqrt(w)),
        }
    }

    /// - tokens: `[batch, tokens]` with `tokens` at most `context_length`. Nothing after
    ///   the end token (the first maximal id) reaches the feature, so a batch may be cut
    ///   to its longest caption.
    /// - returns text features `[batch, embed_dim]`, not L2-normalised.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let [_, length] = tokens.dims();
        let device = tokens.device();
        let end_b = tokens.clone().argmax(1).squeeze_dim::<1>(1);
        let positions = self.positional_embedding.val().narrow(0, 0, length);
        let x =
            module::embedding(self.token_embedding.weight.val(), tokens) + positions.unsqueeze();
        let mask = causal_mask(length, &device);
        let pooled = self
            .transformer
            .forward_token(x, &Token::At(end_b), Some(&mask));
        self.ln_final
            .forward(pooled)
            .matmul(self.text_projection.val())
    }
}
