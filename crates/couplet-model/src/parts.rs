//! Towers that run block by block, for gradient checkpointing: a backward pass that keeps the
//! input of each block and computes the rest again.

use burn::tensor::Tensor;

use crate::clip::Clip;
use crate::forward::ForwardContext;
use crate::precision::Precision;
use crate::text::TextTower;
use crate::tokens::Tokens;
use crate::vit::VisionTransformer;

/// One tower of a model in parts: the stem, every block but the last, and the head, which is the
/// last block with everything after it. One after the other they compute what
/// [`Clip::encode_image_train`] and [`Clip::encode_text`] compute.
#[derive(Debug)]
pub struct TowerParts<'a> {
    input: Input<'a>,
    precision: Precision,
}

#[derive(Debug)]
enum Input<'a> {
    Images {
        tower: &'a VisionTransformer,
        images: Option<Tensor<4>>,
        context: &'a ForwardContext,
    },
    Tokens {
        tower: &'a TextTower,
        tokens: Tokens,
    },
}

impl Clip {
    /// The image tower's parts for a batch in training; `None` for a tower without
    /// [`has_blocks`](crate::ImageTowerSpec::has_blocks).
    /// - images, context: as [`Self::encode_image_train`] takes them; images may be left out if
    ///   the stem does not run.
    pub fn image_parts<'a>(
        &'a self,
        images: Option<Tensor<4>>,
        context: &'a ForwardContext,
    ) -> Option<TowerParts<'a>> {
        let tower = self.visual.as_blocks()?;
        Some(TowerParts {
            input: Input::Images {
                tower,
                images,
                context,
            },
            precision: self.precision(),
        })
    }

    /// The text tower's parts for a batch.
    /// - tokens: as [`Self::encode_text`] takes them.
    pub fn text_parts(&self, tokens: impl Into<Tokens>) -> TowerParts<'_> {
        TowerParts {
            input: Input::Tokens {
                tower: &self.text,
                tokens: tokens.into(),
            },
            precision: self.precision(),
        }
    }
}

impl TowerParts<'_> {
    /// The number of blocks between the stem and the head.
    pub fn blocks(&self) -> usize {
        let all = match &self.input {
            Input::Images { tower, .. } => tower.blocks(),
            Input::Tokens { tower, .. } => tower.blocks(),
        };
        all.saturating_sub(1)
    }

    /// The input of the first block, `[batch, tokens, width]`.
    ///
    /// # Panics
    /// If the images were left out.
    pub fn stem(&self) -> Tensor<3> {
        match &self.input {
            Input::Images {
                tower,
                images,
                context,
            } => {
                let images = images.clone().expect("the stem reads images");
                tower.stem(images, Some(context), self.precision)
            }
            Input::Tokens { tower, tokens } => tower.stem(tokens),
        }
    }

    /// The output of block `at`; x and output are `[batch, tokens, width]`.
    pub fn block(&self, at: usize, x: Tensor<3>) -> Tensor<3> {
        match &self.input {
            Input::Images { tower, .. } => tower.block(at, x, self.precision),
            Input::Tokens { tower, tokens } => tower.block(at, x, &tokens.ids, self.precision),
        }
    }

    /// Features `[batch, embed_dim]`, not L2-normalised.
    /// - x: the input of the last block, `[batch, tokens, width]`.
    pub fn head(&self, x: Tensor<3>) -> Tensor<2> {
        let last = self.blocks();
        match &self.input {
            Input::Images { tower, .. } => tower.head(last, x, self.precision),
            Input::Tokens { tower, tokens } => {
                tower.head(last, x, tokens.ids.clone(), self.precision)
            }
        }
    }
}
