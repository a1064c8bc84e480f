//! The two towers joined.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use crate::init::Initializer;
use crate::layers::ChannelStatistics;
use crate::precision::Precision;
use crate::{
    ClassifierHead, ImageTowerSpec, ModelSpec, ModifiedResNet, TextTower, VisionTransformer,
};

/// `exp(logit_scale)` is kept at or below this. Source: Radford et al. 2021, section 2.5.
pub const MAX_LOGIT_SCALE: f32 = 100.0;

/// Norms below this are treated as this. Source: `torch.nn.functional.normalize`.
const NORMALIZE_EPS: f32 = 1e-12;

/// A CLIP model: image tower, text tower and learned temperature.
#[derive(Module, Debug)]
pub struct Clip {
    pub(crate) visual: ImageTower,
    pub(crate) text: TextTower,
    /// The log of the factor on cosine similarities, `[1]`.
    pub logit_scale: Param<Tensor<1>>,
    /// Added to the scaled similarities, `[1]`. Source: Zhai et al. 2023, "Sigmoid Loss
    /// for Language Image Pre-Training".
    pub logit_bias: Option<Param<Tensor<1>>>,
    /// Of a model that is fine-tuned to tell classes.
    pub(crate) head: Option<ClassifierHead>,
    #[module(skip)]
    precision: Precision,
}

/// The image tower, by kind.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one image tower in a process, not a list of them"
)]
pub enum ImageTower {
    Vit(VisionTransformer),
    ResNet(ModifiedResNet),
}

/// Which pass of training this is: every draw is a pure function of it, so that a pass
/// that is repeated draws the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardContext {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step, from 0.
    pub step: u64,
    /// Index in the step's batch of the first image of this pass.
    pub first_row: u64,
}

/// What the batch norms saw in one training pass; empty for a ViT.
#[derive(Debug, Clone, Default)]
pub struct BatchStatistics(Vec<ChannelStatistics>);

impl Clip {
    /// A model with CLIP's initial weights, drawn on the host as a pure function of
    /// `seed` and each parameter's name. On an autodiff device it can be trained.
    ///
    /// # Panics
    /// If `spec.problems()` is not empty.
    pub fn init(spec: &ModelSpec, seed: u64, device: &Device) -> Self {
        Self::build(spec, Some(seed), device)
    }

    /// A model that is to be filled from a file at once: nothing is drawn.
    pub(crate) fn blank(spec: &ModelSpec, device: &Device) -> Self {
        Self::build(spec, None, device)
    }

    fn build(spec: &ModelSpec, seed: Option<u64>, device: &Device) -> Self {
        assert_eq!(spec.problems(), [], "a model spec must be sound");
        let init = Initializer { seed, device };
        let (activation, embed_dim) = (spec.activation, spec.embed_dim);
        let visual = match &spec.image {
            ImageTowerSpec::Vit(vit) => {
                ImageTower::Vit(VisionTransformer::init(vit, embed_dim, activation, &init))
            }
            ImageTowerSpec::ResNet(resnet) => {
                ImageTower::ResNet(ModifiedResNet::init(resnet, embed_dim, &init))
            }
        };
        Self {
            visual,
            text: TextTower::init(&spec.text, embed_dim, activation, &init),
            logit_scale: init.constant([1], spec.init_logit_scale),
            logit_bias: spec.init_logit_bias.map(|bias| init.constant([1], bias)),
            head: None,
            precision: Precision::F32,
        }
    }

    /// The same weights, multiplied in another dtype from now on. Features stay f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// As in evaluation: batch norms use their running statistics, no patch is dropped.
    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised.
    pub fn encode_image(&self, images: Tensor<4>) -> Tensor<2> {
        match &self.visual {
            ImageTower::Vit(vit) => vit.forward(images, None, self.precision),
            ImageTower::ResNet(resnet) => resnet.forward(images, self.precision),
        }
    }

    /// As in training: batch norms use this batch's statistics, patches are dropped where
    /// the model's spec says so.
    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised, and what
    ///   [`Self::update_statistics`] takes once a pass.
    pub fn encode_image_train(
        &self,
        images: Tensor<4>,
        pass: &ForwardContext,
    ) -> (Tensor<2>, BatchStatistics) {
        match &self.visual {
            ImageTower::Vit(vit) => {
                let features = vit.forward(images, Some(pass), self.precision);
                (features, BatchStatistics::default())
            }
            ImageTower::ResNet(resnet) => {
                let (features, seen) = resnet.forward_train(images, self.precision);
                (features, BatchStatistics(seen))
            }
        }
    }

    /// Moves the running statistics of the batch norms towards those of one pass.
    #[must_use]
    pub fn update_statistics(mut self, seen: BatchStatistics) -> Self {
        if let ImageTower::ResNet(resnet) = &mut self.visual {
            resnet.update(seen.0);
        }
        self
    }

    /// - tokens: `[batch, tokens]`, start and end tokens included, `tokens` at most
    ///   `context_length` (all of it where the tower reads its padding).
    /// - returns text features `[batch, embed_dim]`, not L2-normalised.
    pub fn encode_text(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        self.text.forward(tokens, self.precision)
    }

    /// The device that holds the weights.
    pub fn device(&self) -> Device {
        self.logit_scale.val().device()
    }
}

/// Rows divided by their Euclidean norm.
/// - features: `[rows, embed_dim]`; returns the same shape.
///
/// Source: `torch.nn.functional.normalize(features, dim=-1)`.
pub fn l2_normalize(features: Tensor<2>) -> Tensor<2> {
    let norm = features.clone().square().sum_dim(1).sqrt();
    features / norm.clamp_min(NORMALIZE_EPS)
}
