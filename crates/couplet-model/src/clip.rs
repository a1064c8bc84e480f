//! The two towers and what joins them.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::forward::ForwardContext;
use crate::head::ClassifierHead;
use crate::image::{BatchStatistics, ImageTower};
use crate::init::Initializer;
use crate::precision::Precision;
use crate::spec::ModelSpec;
use crate::text::TextTower;
use crate::tokens::Tokens;

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
    /// Of a model that is fine-tuned for classification.
    pub(crate) head: Option<ClassifierHead>,
    #[module(skip)]
    precision: Precision,
}

impl Clip {
    /// A model with CLIP's initial weights, drawn on the host as a pure function of
    /// `seed` and each parameter's name. On an autodiff device it can be trained.
    ///
    /// # Panics
    /// If `spec.problems()` is not empty.
    pub fn init(spec: &ModelSpec, seed: u64, device: &Device) -> Self {
        Self::build(spec, Some(seed), device)
    }

    /// A model to be filled from a file: nothing is drawn or allocated.
    pub(crate) fn blank(spec: &ModelSpec, device: &Device) -> Self {
        Self::build(spec, None, device)
    }

    fn build(spec: &ModelSpec, seed: Option<u64>, device: &Device) -> Self {
        assert_eq!(spec.problems(), [], "the model spec has no problems");
        let init = Initializer { seed, device };
        Self {
            visual: ImageTower::init(spec, &init),
            text: TextTower::init(&spec.text, spec.embed_dim, spec.activation, &init),
            logit_scale: init.constant([1], spec.init_logit_scale),
            logit_bias: spec.init_logit_bias.map(|bias| init.constant([1], bias)),
            head: None,
            precision: Precision::F32,
        }
    }

    /// The same weights with another dtype for matrix products. Features stay f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The dtype of matrix products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// As in evaluation: batch norms use their running statistics, no patch is dropped.
    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised.
    pub fn encode_image(&self, images: Tensor<4>) -> Tensor<2> {
        self.visual.forward(images, self.precision)
    }

    /// As in training: batch norms use this batch's statistics, and patches are dropped if the
    /// model's spec says so.
    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised, and the statistics for
    ///   [`Self::update_statistics`].
    pub fn encode_image_train(
        &self,
        images: Tensor<4>,
        context: &ForwardContext,
    ) -> (Tensor<2>, BatchStatistics) {
        self.visual.forward_train(images, context, self.precision)
    }

    /// Moves the running statistics of the batch norms towards those of one pass.
    #[must_use]
    pub fn update_statistics(mut self, statistics: BatchStatistics) -> Self {
        self.visual.update_statistics(statistics);
        self
    }

    /// - tokens: `[batch, tokens]`, start and end tokens included, at most
    ///   `context_length` tokens (exactly as many if the tower reads its padding).
    /// - returns text features `[batch, embed_dim]`, not L2-normalised.
    pub fn encode_text(&self, tokens: impl Into<Tokens>) -> Tensor<2> {
        self.text.forward(tokens.into(), self.precision)
    }

    /// The number of rows of the token embedding, if it is trained.
    pub fn trained_vocabulary(&self) -> Option<usize> {
        self.text.trained_vocabulary()
    }

    /// The same model with a classifier, whose parameters are then visited as `head.weight`
    /// and `head.bias`.
    #[must_use]
    pub fn with_head(mut self, head: ClassifierHead) -> Self {
        self.head = Some(head);
        self
    }

    /// The same model without a classifier, and the classifier.
    #[must_use]
    pub fn split_head(mut self) -> (Self, Option<ClassifierHead>) {
        let head = self.head.take();
        (self, head)
    }

    /// The classifier, if it has one.
    pub fn head(&self) -> Option<&ClassifierHead> {
        self.head.as_ref()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;
    use crate::spec::ImageTowerSpec;
    use burn::tensor::TensorData;

    #[test]
    fn patches_are_dropped_in_training_only() {
        let device = Device::flex();
        let context = ForwardContext {
            seed: 3,
            step: 5,
            first_row: 0,
        };
        let values = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().unwrap();
        let mut spec = presets::find("ViT-Ti-16-64").unwrap();
        let whole = Clip::init(&spec, 0, &device);
        if let ImageTowerSpec::Vit(vit) = &mut spec.image {
            vit.patch_dropout = 0.5;
        }
        let dropping = Clip::init(&spec, 0, &device);
        let images = || {
            Tensor::<4>::from_data(
                TensorData::new([0.0f32, 1.0, 2.0, 3.0].repeat(3 * 64 * 16), [1, 3, 64, 64]),
                &device,
            )
        };
        let expected = values(whole.encode_image(images()));
        assert_eq!(values(dropping.encode_image(images())), expected);
        let (trained, _) = dropping.encode_image_train(images(), &context);
        assert_ne!(values(trained), expected);
        let (trained, _) = whole.encode_image_train(images(), &context);
        assert_eq!(values(trained), expected);
    }
}
