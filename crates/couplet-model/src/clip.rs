//! The two towers joined.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use crate::init::Initializer;
use crate::{ImageTowerSpec, ModelSpec, TextTower, VisionTransformer};

/// `exp(logit_scale)` is kept at or below this. Source: Radford et al. 2021, section 2.5.
pub const MAX_LOGIT_SCALE: f32 = 100.0;

/// Norms below this are treated as this. Source: `torch.nn.functional.normalize`.
const NORMALIZE_EPS: f32 = 1e-12;

/// A CLIP model: image tower, text tower and learned temperature.
#[derive(Module, Debug)]
pub struct Clip {
    visual: ImageTower,
    text: TextTower,
    /// The log of the factor on cosine similarities, `[1]`.
    pub logit_scale: Param<Tensor<1>>,
}

/// The image tower, by kind.
#[derive(Module, Debug)]
pub enum ImageTower {
    Vit(VisionTransformer),
}

impl Clip {
    /// A model with CLIP's initial weights, drawn on the host as a pure function of
    /// `seed` and each parameter's name. On an autodiff device it can be trained.
    ///
    /// # Panics
    /// If `spec.problems()` is not empty.
    pub fn init(spec: &ModelSpec, seed: u64, device: &Device) -> Self {
        assert_eq!(spec.problems(), [], "a model spec must be sound");
        let init = Initializer { seed, device };
        let ImageTowerSpec::Vit(vit) = &spec.image;
        Self {
            visual: ImageTower::Vit(VisionTransformer::init(
                vit,
                spec.embed_dim,
                spec.activation,
                &init,
            )),
            text: TextTower::init(&spec.text, spec.embed_dim, spec.activation, &init),
            logit_scale: init.constant([1], spec.init_logit_scale),
        }
    }

    /// - images: `[batch, 3, image_size, image_size]`, normalised.
    /// - returns image features `[batch, embed_dim]`, not L2-normalised.
    pub fn encode_image(&self, images: Tensor<4>) -> Tensor<2> {
        match &self.visual {
            ImageTower::Vit(vit) => vit.forward(images),
        }
    }

    /// - tokens: `[batch, tokens]`, start and end tokens included, `tokens` at most
    ///   `context_length`.
    /// - returns text features `[batch, embed_dim]`, not L2-normalised.
    pub fn encode_text(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        self.text.forward(tokens)
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
