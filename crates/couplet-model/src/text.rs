//! The text tower of any kind.

use burn::module::Module;
use burn::tensor::{Int, Tensor};

use crate::bert::BertText;
use crate::clip_text::ClipText;
use crate::init::Initializer;
use crate::lora::VisitLayers;
use crate::modern_bert::ModernBertText;
use crate::precision::Precision;
use crate::spec::{Activation, TextEncoder, TextTowerSpec};
use crate::tokens::Tokens;

/// The text tower, by its encoder.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one text tower, not a list of them"
)]
pub enum TextTower {
    Clip(ClipText),
    Bert(BertText),
    ModernBert(ModernBertText),
}

impl TextTower {
    pub(crate) fn init(
        spec: &TextTowerSpec,
        embed_dim: usize,
        activation: Activation,
        init: &Initializer,
    ) -> Self {
        match spec.encoder {
            TextEncoder::Clip => Self::Clip(ClipText::init(spec, embed_dim, activation, init)),
            TextEncoder::Bert { token_types, .. }
            | TextEncoder::Roberta { token_types, .. }
            | TextEncoder::XlmRoberta { token_types, .. } => {
                let bert = BertText::init(spec, token_types, embed_dim, activation, init);
                Self::Bert(bert)
            }
            TextEncoder::ModernBert { .. } => {
                Self::ModernBert(ModernBertText::init(spec, embed_dim, activation, init))
            }
        }
    }

    /// The number of rows of the token embedding, if it is trained.
    pub(crate) fn trained_vocabulary(&self) -> Option<usize> {
        match self {
            Self::Clip(clip) => clip.trained_vocabulary(),
            Self::Bert(bert) => bert.trained_vocabulary(),
            Self::ModernBert(modern) => modern.trained_vocabulary(),
        }
    }

    /// - tokens: `[batch, tokens]` with `tokens` at most `context_length`: a batch may be
    ///   cut to its longest text where `TextTowerSpec::reads_no_padding`.
    /// - returns text features `[batch, embed_dim]`, not L2-normalised.
    ///
    /// # Panics
    /// If a tower that reads its padding is given less than `context_length` tokens.
    pub(crate) fn forward(&self, tokens: Tokens, precision: Precision) -> Tensor<2> {
        let x = self.stem(&tokens);
        self.head(0, x, tokens.ids, precision)
    }

    /// The input of the first block, `[batch, tokens, width]`.
    /// - tokens: as [`Self::forward`] takes them.
    pub(crate) fn stem(&self, tokens: &Tokens) -> Tensor<3> {
        match self {
            Self::Clip(clip) => clip.stem(tokens),
            Self::Bert(bert) => bert.stem(tokens),
            Self::ModernBert(modern) => modern.stem(tokens),
        }
    }

    /// The output of block `at`; x and output are `[batch, tokens, width]`.
    /// - ids: of the same texts, `[batch, tokens]`.
    pub(crate) fn block(
        &self,
        at: usize,
        x: Tensor<3>,
        ids: &Tensor<2, Int>,
        precision: Precision,
    ) -> Tensor<3> {
        match self {
            Self::Clip(clip) => clip.block(at, x, precision),
            Self::Bert(bert) => bert.block(at, x, ids, precision),
            Self::ModernBert(modern) => modern.block(at, x, ids, precision),
        }
    }

    /// The blocks from `first` on, pooling, the last norm and the projection.
    /// - x: `[batch, tokens, width]`; ids: of the same texts, `[batch, tokens]`.
    /// - returns `[batch, embed_dim]`.
    pub(crate) fn head(
        &self,
        first: usize,
        x: Tensor<3>,
        ids: Tensor<2, Int>,
        precision: Precision,
    ) -> Tensor<2> {
        match self {
            Self::Clip(clip) => clip.head(first, x, ids, precision),
            Self::Bert(bert) => bert.head(first, x, &ids, precision),
            Self::ModernBert(modern) => modern.head(first, x, &ids, precision),
        }
    }

    pub(crate) fn visit_layers(&mut self, visit: &mut VisitLayers) {
        match self {
            Self::Clip(clip) => clip.visit_layers(visit),
            Self::Bert(bert) => bert.visit_layers(visit),
            Self::ModernBert(modern) => modern.visit_layers(visit),
        }
    }

    /// The number of residual blocks.
    pub(crate) fn blocks(&self) -> usize {
        match self {
            Self::Clip(clip) => clip.blocks(),
            Self::Bert(bert) => bert.blocks(),
            Self::ModernBert(modern) => modern.blocks(),
        }
    }
}
