//! The forms of vision transformers that other libraries have: everything but sizes, activation and epsilon.

use super::{
    DEFAULT_NORM_EPS, ImagePool, ImagePositions, ImageProjection, VitSpec, default_mlp_ratio,
};

impl VitSpec {
    /// CLIP's form, without sizes.
    pub(crate) fn clip_form() -> Self {
        Self {
            image_size: 0,
            patch_size: 0,
            width: 0,
            layers: 0,
            heads: 0,
            mlp_ratio: default_mlp_ratio(),
            activation: None,
            norm_eps: DEFAULT_NORM_EPS,
            layer_scale: None,
            pre_norm: true,
            class_token: true,
            patch_bias: false,
            positions: ImagePositions::Learned,
            patch_dropout: 0.0,
            attention_pool: None,
            pool: ImagePool::Class,
            norm_after_pool: false,
            pooler: false,
            projection: ImageProjection::Linear,
        }
    }

    /// SigLIP's form, without sizes: no class token, and a MAP head.
    pub(crate) fn siglip_form() -> Self {
        Self {
            pre_norm: false,
            class_token: false,
            patch_bias: true,
            pool: ImagePool::Map,
            projection: ImageProjection::None,
            ..Self::clip_form()
        }
    }

    /// The form of Hugging Face's `ViTModel` with a projection, without sizes.
    pub(crate) fn hugging_face_form() -> Self {
        Self {
            pre_norm: false,
            patch_bias: true,
            pooler: true,
            ..Self::clip_form()
        }
    }

    /// This tower in another form, with the sizes and settings that all forms have.
    pub(crate) fn in_form(&self, form: fn() -> Self) -> Self {
        Self {
            image_size: self.image_size,
            patch_size: self.patch_size,
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            mlp_ratio: self.mlp_ratio,
            activation: self.activation,
            norm_eps: self.norm_eps,
            patch_dropout: self.patch_dropout,
            // No difference for one token.
            norm_after_pool: self.norm_after_pool,
            ..form()
        }
    }

    /// Whether it is built as SigLIP's image towers are, of whatever size.
    pub fn is_siglip(&self) -> bool {
        *self == self.in_form(Self::siglip_form)
    }

    /// Whether it is built as the towers of Hugging Face's `ViTModel` are, of whatever size, with a projection.
    pub(crate) fn is_hugging_faces(&self) -> bool {
        *self == self.in_form(Self::hugging_face_form)
    }
}
