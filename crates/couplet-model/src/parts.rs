//! Towers run block by block: for a backward pass that keeps what goes into each block
//! and computes the rest again.

use burn::tensor::{Int, Tensor};

use crate::{Clip, ForwardContext, ImageTower};

/// One tower of a model in parts: the start, every block but the last, and the end, which
/// is the last block with all that follows it. One after the other they are what
/// [`Clip::encode_image_train`] and [`Clip::encode_text`] compute.
#[derive(Debug)]
pub struct TowerParts<'a> {
    model: &'a Clip,
    input: Input<'a>,
}

#[derive(Debug)]
enum Input<'a> {
    Images(Option<Tensor<4>>, &'a ForwardContext),
    Tokens(Tensor<2, Int>),
}

impl Clip {
    /// The image tower's parts for a batch in training; `None` for a ResNet, whose batch
    /// norms would see every batch twice.
    /// - images, pass: as [`Self::encode_image_train`] takes them; no images where the start
    ///   is not run.
    pub fn image_parts<'a>(
        &'a self,
        images: Option<Tensor<4>>,
        pass: &'a ForwardContext,
    ) -> Option<TowerParts<'a>> {
        match &self.visual {
            ImageTower::Vit(_) => Some(TowerParts {
                model: self,
                input: Input::Images(images, pass),
            }),
            ImageTower::ResNet(_) => None,
        }
    }

    /// The text tower's parts for a batch.
    /// - tokens: as [`Self::encode_text`] takes them.
    pub fn text_parts(&self, tokens: Tensor<2, Int>) -> TowerParts<'_> {
        TowerParts {
            model: self,
            input: Input::Tokens(tokens),
        }
    }
}

impl TowerParts<'_> {
    /// How many blocks stand between the start and the end.
    pub fn blocks(&self) -> usize {
        let all = match (&self.input, &self.model.visual) {
            (Input::Images(..), ImageTower::Vit(vit)) => vit.blocks(),
            (Input::Images(..), ImageTower::ResNet(_)) => 0,
            (Input::Tokens(_), _) => self.model.text.blocks(),
        };
        all.saturating_sub(1)
    }

    /// What the first block reads, `[batch, tokens, width]`.
    ///
    /// # Panics
    /// If an image tower was given no images.
    pub fn start(&self) -> Tensor<3> {
        match &self.input {
            Input::Images(images, pass) => {
                let precision = self.model.precision();
                let images = images.clone().expect("the start reads images");
                self.vit().start(images, Some(pass), precision)
            }
            Input::Tokens(tokens) => self.model.text.start(tokens.clone()),
        }
    }

    /// One block's answer to `[batch, tokens, width]`, of the same shape.
    pub fn block(&self, at: usize, x: Tensor<3>) -> Tensor<3> {
        let precision = self.model.precision();
        match &self.input {
            Input::Images(..) => self.vit().block(at, x, precision),
            Input::Tokens(_) => self.model.text.block(at, x, precision),
        }
    }

    /// Features `[batch, embed_dim]`, not L2-normalised, of what the last block reads.
    pub fn end(&self, x: Tensor<3>) -> Tensor<2> {
        let precision = self.model.precision();
        let last = self.blocks();
        match &self.input {
            Input::Images(..) => self.vit().end(last, x, precision),
            Input::Tokens(tokens) => self.model.text.end(last, x, tokens.clone(), precision),
        }
    }

    fn vit(&self) -> &crate::VisionTransformer {
        match &self.model.visual {
            ImageTower::Vit(vit) => vit,
            ImageTower::ResNet(_) => unreachable!("a ResNet has no parts"),
        }
    }
}
