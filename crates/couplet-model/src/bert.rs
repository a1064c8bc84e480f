//! BERT, RoBERTa and XLM-RoBERTa as text towers. Source: transformers `BertModel`, `RobertaModel`, open_clip
//! `HFTextEncoder`.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, activation};
use couplet_kernels::{add_branch, embedding};

use crate::attention::Attention;
use crate::init::Initializer;
use crate::layers::{LayerNorm, Linear};
use crate::lora::VisitLayers;
use crate::padding::{is_token, mean_of_tokens, padding_mask};
use crate::precision::{Precision, widen};
use crate::spec::{Activation, TextEncoder, TextPool, TextTowerSpec};
use crate::text_parts::{Projection, TokenEmbedding};
use crate::token::Token;
use crate::tokens::Tokens;
use crate::transformer::{BlockSpec, Mlp};
use crate::weight_draws::BlockStd;

/// Standard deviation of the draws of weights and embeddings.
const STD: f32 = 0.02;

/// Embeddings of tokens, positions and token types, blocks with a norm after each half, pooling, and a projection into
/// the joint space.
#[derive(Module, Debug)]
pub struct BertText {
    /// `[positions, width]`
    positional_embedding: Param<Tensor<2>>,
    /// `[types, width]`
    token_type_embedding: Param<Tensor<2>>,
    token_embedding: TokenEmbedding,
    ln_embed: LayerNorm,
    transformer: BertBlocks,
    pooler: Option<Linear>,
    text_projection: Option<Projection>,
    #[module(skip)]
    pad_id: u32,
    /// Whether positions are counted from `pad_id + 1`, padding left out.
    counts_from_pad: bool,
    #[module(skip)]
    pool: TextPool,
}

#[derive(Module, Debug)]
struct BertBlocks {
    resblocks: Vec<BertBlock>,
}

/// `y = ln_1(x + attn(x))`, then `ln_2(y + mlp(y))`.
#[derive(Module, Debug)]
struct BertBlock {
    attn: Attention,
    ln_1: LayerNorm,
    mlp: Mlp,
    ln_2: LayerNorm,
}

impl BertText {
    /// All initialisation rules: N(0, 0.02) for weights and embeddings, biases 0. Source: transformers
    /// `BertPreTrainedModel._init_weights`.
    pub(crate) fn init(
        spec: &TextTowerSpec,
        token_types: usize,
        embed_dim: usize,
        activation: Activation,
        init: &Initializer,
    ) -> Self {
        let w = spec.width;
        let blocks = BlockSpec::from_text(spec, activation);
        let block = |at| BertBlock::init(&blocks, &format!("transformer.resblocks.{at}"), init);
        Self {
            positional_embedding: init.normal(
                "positional_embedding",
                [spec.position_embeddings(), w],
                STD,
            ),
            token_type_embedding: init.normal("token_type_embedding", [token_types, w], STD),
            token_embedding: TokenEmbedding::init(spec, init),
            ln_embed: LayerNorm::init(w, spec.norm_eps, init),
            transformer: BertBlocks {
                resblocks: (0..spec.layers).map(block).collect(),
            },
            pooler: (spec.pool == TextPool::Pooler).then(|| Linear {
                weight: init.normal("pooler.weight", [w, w], STD),
                bias: init.constant([w], 0.0),
                lora: None,
            }),
            text_projection: Projection::init(spec, embed_dim, init),
            pad_id: spec.pad_id,
            counts_from_pad: !matches!(spec.encoder, TextEncoder::Bert { .. }),
            pool: spec.pool,
        }
    }

    pub(crate) fn trained_vocabulary(&self) -> Option<usize> {
        self.token_embedding.trained_vocabulary()
    }

    /// The input of the first block, `[batch, tokens, width]`.
    pub(crate) fn stem(&self, tokens: &Tokens) -> Tensor<3> {
        let [_, length] = tokens.ids.dims();
        let table = self.positional_embedding.val();
        let positions = if self.counts_from_pad {
            let is_token = is_token(&tokens.ids, self.pad_id);
            let counted = is_token.clone().cumsum(1) * is_token;
            embedding(table, counted.add_scalar(self.pad_id), None)
        } else {
            table.narrow(0, 0, length).unsqueeze()
        };
        let types = self.token_type_embedding.val().narrow(0, 0, 1).unsqueeze();
        let embedded = self.token_embedding.forward(tokens) + positions + types;
        self.ln_embed.forward(embedded)
    }

    /// The output of block `at`; x and output are `[batch, tokens, width]`.
    pub(crate) fn block(
        &self,
        at: usize,
        x: Tensor<3>,
        ids: &Tensor<2, Int>,
        precision: Precision,
    ) -> Tensor<3> {
        let mask = padding_mask(ids, self.pad_id, &x);
        self.transformer.resblocks[at].forward(x, &mask, precision)
    }

    /// The blocks from `first` on, pooling and the projection.
    /// - x: `[batch, tokens, width]`; returns `[batch, embed_dim]`.
    pub(crate) fn head(
        &self,
        first: usize,
        x: Tensor<3>,
        ids: &Tensor<2, Int>,
        precision: Precision,
    ) -> Tensor<2> {
        let mask = padding_mask(ids, self.pad_id, &x);
        let blocks = self.transformer.resblocks.iter().skip(first);
        let x = blocks.fold(x, |x, block| block.forward(x, &mask, precision));
        let pooled = match (&self.pooler, self.pool) {
            (None, TextPool::Mean) => mean_of_tokens(x, ids, self.pad_id),
            (pooler, _) => {
                let first = Token::First.pick(x).squeeze_dim(1);
                match pooler {
                    Some(pooler) => activation::tanh(widen(pooler.forward(first, precision))),
                    None => first,
                }
            }
        };
        Projection::apply(self.text_projection.as_ref(), pooled, precision)
    }

    pub(crate) fn visit_layers(&mut self, visit: &mut VisitLayers) {
        for (at, block) in self.transformer.resblocks.iter_mut().enumerate() {
            let name = format!("transformer.resblocks.{at}");
            block.attn.visit_layers(&format!("{name}.attn"), visit);
            block.mlp.visit_layers(&format!("{name}.mlp"), visit);
        }
        if let Some(pooler) = &mut self.pooler {
            pooler.visit_layers("pooler", visit);
        }
        if let Some(projection) = &mut self.text_projection {
            projection.visit_layers(visit);
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.transformer.resblocks.len()
    }
}

impl BertBlock {
    fn init(spec: &BlockSpec, name: &str, init: &Initializer) -> Self {
        let std = BlockStd {
            attn_in: STD,
            residual_out: STD,
            mlp_in: STD,
            zero_biases: true,
        };
        let norm = || LayerNorm::init(spec.width, spec.norm_eps, init);
        let (attn, mlp) = (format!("{name}.attn"), format!("{name}.mlp"));
        Self {
            attn: Attention::init(spec.width, spec.heads, Some(&std), &attn, init),
            ln_1: norm(),
            mlp: Mlp::init(spec, Some(&std), &mlp, init),
            ln_2: norm(),
        }
    }

    fn forward(&self, x: Tensor<3>, mask: &Tensor<4>, precision: Precision) -> Tensor<3> {
        let attended = self.attn.forward(x.clone(), Some(mask), precision);
        let x = self.ln_1.forward(add_branch(x, attended));
        let hidden = self.mlp.forward(x.clone(), precision);
        self.ln_2.forward(add_branch(x, hidden))
    }
}
