//! CLIP's text tower. Source: open_clip `TextTransformer` and `CLIP.encode_text`.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};

use crate::attention::AttentionPool;
use crate::init::{Initializer, inverse_sqrt};
use crate::layers::LayerNorm;
use crate::lora::VisitLayers;
use crate::precision::Precision;
use crate::spec::{Activation, AttentionPoolSpec, TextPool, TextTowerSpec};
use crate::text_parts::{Projection, TokenEmbedding};
use crate::token::Token;
use crate::tokens::Tokens;
use crate::transformer::{BlockSpec, Transformer, causal_mask};
use crate::weight_draws::BlockStd;

/// open_clip's own text tower: token and position embeddings, blocks, pooling, and a projection
/// into the joint space.
#[derive(Module, Debug)]
pub struct ClipText {
    positional_embedding: Param<Tensor<2>>,
    transformer: Transformer,
    token_embedding: TokenEmbedding,
    attn_pool: Option<AttentionPool>,
    ln_final: LayerNorm,
    text_projection: Option<Projection>,
    causal: bool,
    reads_no_padding: bool,
    #[module(skip)]
    pool: TextPool,
}

impl ClipText {
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
            zero_biases: false,
        };
        Self {
            positional_embedding: init.normal(
                "positional_embedding",
                [spec.context_length, w],
                0.01,
            ),
            transformer: Transformer::init(
                &BlockSpec::from_text(spec, activation),
                Some(&std),
                "transformer",
                init,
            ),
            token_embedding: TokenEmbedding::init(spec, init),
            attn_pool: match spec.pool {
                TextPool::Map { heads } => {
                    let pool = AttentionPoolSpec { queries: 1, heads };
                    let eps = spec.norm_eps;
                    Some(AttentionPool::init(pool, w, w, eps, "attn_pool", init))
                }
                _ => None,
            },
            ln_final: LayerNorm::init(w, spec.norm_eps, init),
            text_projection: Projection::init(spec, embed_dim, init),
            causal: spec.causal,
            reads_no_padding: spec.reads_no_padding(),
            pool: spec.pool,
        }
    }

    /// The number of rows of the token embedding, if it is trained.
    pub(crate) fn trained_vocabulary(&self) -> Option<usize> {
        self.token_embedding.trained_vocabulary()
    }

    /// The input of the first block, `[batch, tokens, width]`.
    ///
    /// # Panics
    /// If a tower that reads its padding is given less than `context_length` tokens.
    pub(crate) fn stem(&self, tokens: &Tokens) -> Tensor<3> {
        let [_, length] = tokens.ids.dims();
        assert!(
            self.reads_no_padding || length == self.positional_embedding.dims()[0],
            "a text tower that reads its padding needs all of its context length"
        );
        let positions = self.positional_embedding.val().narrow(0, 0, length);
        self.token_embedding.forward(tokens) + positions.unsqueeze()
    }

    /// The output of block `at`; x and output are `[batch, tokens, width]`.
    pub(crate) fn block(&self, at: usize, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let mask = self.mask(&x);
        self.transformer.block(at, x, mask.as_ref(), precision)
    }

    /// The blocks from `first` on, pooling, the last norm and the projection.
    /// - x: `[batch, tokens, width]`; tokens: of the same texts.
    /// - returns `[batch, embed_dim]`.
    pub(crate) fn head(
        &self,
        first: usize,
        x: Tensor<3>,
        tokens: Tensor<2, Int>,
        precision: Precision,
    ) -> Tensor<2> {
        let mask = self.mask(&x);
        let mask = mask.as_ref();
        let pooled = if let Some(attn_pool) = &self.attn_pool {
            let tokens = self.transformer.forward(first, x, mask, precision);
            attn_pool.forward(tokens, precision).squeeze_dim(1)
        } else {
            let token = self.pooled_token(tokens);
            (self.transformer).forward_token(first, x, &token, mask, precision)
        };
        let pooled = self.ln_final.forward(pooled);
        Projection::apply(self.text_projection.as_ref(), pooled, precision)
    }

    pub(crate) fn visit_layers(&mut self, visit: &mut VisitLayers) {
        self.transformer.visit_layers("transformer", visit);
        if let Some(projection) = &mut self.text_projection {
            projection.visit_layers(visit);
        }
    }

    /// The number of residual blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.transformer.resblocks.len()
    }

    /// - x: `[batch, tokens, width]`; returns `[1, 1, tokens, tokens]` of its dtype.
    fn mask(&self, x: &Tensor<3>) -> Option<Tensor<4>> {
        let length = x.dims()[1];
        self.causal
            .then(|| causal_mask(length, &x.device()).cast(x.dtype()))
    }

    fn pooled_token(&self, tokens: Tensor<2, Int>) -> Token {
        match self.pool {
            TextPool::Argmax => Token::At(tokens.argmax(1).squeeze_dim(1)),
            TextPool::Eos { id } => {
                let is_end = tokens.equal_elem(id).int();
                Token::At(is_end.argmax(1).squeeze_dim(1))
            }
            TextPool::First | TextPool::Mean | TextPool::Pooler | TextPool::Map { .. } => {
                Token::First
            }
            TextPool::Last => Token::Last,
        }
    }
}
