//! The serde types that describe a model and travel with its weights.

use serde::{Deserialize, Serialize};

/// ln(1 / 0.07), CLIP's initial `logit_scale`. Source: Radford et al. 2021, section 2.5.
pub fn clip_init_logit_scale() -> f32 {
    (1.0f32 / 0.07).ln()
}

/// A CLIP model: two towers and the joint space they end in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Width of the joint image-text space.
    pub embed_dim: usize,
    /// Activation of every MLP in both towers.
    #[serde(default)]
    pub activation: Activation,
    /// Initial `logit_scale`, stored as its log.
    #[serde(default = "clip_init_logit_scale")]
    pub init_logit_scale: f32,
    pub image: ImageTowerSpec,
    pub text: TextTowerSpec,
}

/// The non-linearity between the two linear layers of an MLP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Exact (erf) GELU: open_clip's plain model names.
    #[default]
    Gelu,
    /// `x * sigmoid(1.702 x)`: the paper's models, open_clip's `-quickgelu` names.
    QuickGelu,
}

/// The image tower, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ImageTowerSpec {
    Vit(VitSpec),
}

/// A vision transformer with a class token, as CLIP has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitSpec {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a square patch, in pixels.
    pub patch_size: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Hidden width of the MLP as a multiple of `width`.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: f64,
}

/// The causal text tower, pooled at the end-of-text token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTowerSpec {
    pub context_length: usize,
    pub vocab_size: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Hidden width of the MLP as a multiple of `width`.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: f64,
}

pub(crate) fn default_mlp_ratio() -> f64 {
    4.0
}

/// How pixels were normalised when the weights were trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreprocessSpec {
    /// Per-channel mean of RGB in [0, 1].
    pub mean: [f32; 3],
    /// Per-channel standard deviation of RGB in [0, 1].
    pub std: [f32; 3],
}

#[expect(
    clippy::excessive_precision,
    reason = "the constants as open_clip writes them"
)]
impl Default for PreprocessSpec {
    /// OpenAI's constants, which open_clip uses unless told otherwise.
    fn default() -> Self {
        Self {
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

/// What is wrong with one field of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// Path of the field inside the spec, such as `image.heads`.
    pub field: String,
    pub message: String,
}

impl ImageTowerSpec {
    /// Side of the square input, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.image_size,
        }
    }

    /// The same tower for another input size, in pixels.
    pub fn set_image_size(&mut self, image_size: usize) {
        match self {
            Self::Vit(vit) => vit.image_size = image_size,
        }
    }
}

impl VitSpec {
    /// Patches along one side of the image.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Hidden width of the MLPs.
    pub fn mlp_width(&self) -> usize {
        mlp_width(self.width, self.mlp_ratio)
    }
}

impl TextTowerSpec {
    /// Hidden width of the MLPs.
    pub fn mlp_width(&self) -> usize {
        mlp_width(self.width, self.mlp_ratio)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "open_clip takes int(width * mlp_ratio); both are small and positive"
)]
fn mlp_width(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio) as usize
}

impl ModelSpec {
    /// Every value that cannot make a model, all at once.
    pub fn problems(&self) -> Vec<SpecProblem> {
        let mut check = Check(Vec::new());
        check.positive("embed_dim", self.embed_dim);
        if !self.init_logit_scale.is_finite() {
            check.fail("init_logit_scale", "must be a finite number".into());
        }
        let ImageTowerSpec::Vit(vit) = &self.image;
        check.positive("image.image_size", vit.image_size);
        if check.positive("image.patch_size", vit.patch_size) {
            if vit.patch_size > vit.image_size {
                check.fail(
                    "image.patch_size",
                    format!(
                        "{} pixels is larger than image_size {}",
                        vit.patch_size, vit.image_size
                    ),
                );
            } else if !vit.image_size.is_multiple_of(vit.patch_size) {
                check.fail(
                    "image.image_size",
                    format!(
                        "{} is not a multiple of patch_size {}",
                        vit.image_size, vit.patch_size
                    ),
                );
            }
        }
        check.transformer("image", vit.width, vit.layers, vit.heads, vit.mlp_ratio);

        let text = &self.text;
        if text.context_length < 3 {
            check.fail(
                "text.context_length",
                format!(
                    "{} is too short for a start, a word and an end token",
                    text.context_length
                ),
            );
        }
        check.positive("text.vocab_size", text.vocab_size);
        check.transformer("text", text.width, text.layers, text.heads, text.mlp_ratio);
        check.0
    }
}

struct Check(Vec<SpecProblem>);

impl Check {
    fn fail(&mut self, field: &str, message: String) {
        self.0.push(SpecProblem {
            field: field.into(),
            message,
        });
    }

    fn positive(&mut self, field: &str, value: usize) -> bool {
        if value == 0 {
            self.fail(field, "must be at least 1".into());
        }
        value > 0
    }

    fn transformer(&mut self, tower: &str, width: usize, layers: usize, heads: usize, ratio: f64) {
        self.positive(&format!("{tower}.width"), width);
        self.positive(&format!("{tower}.layers"), layers);
        if self.positive(&format!("{tower}.heads"), heads) && !width.is_multiple_of(heads) {
            self.fail(
                &format!("{tower}.heads"),
                format!("{heads} heads do not divide width {width}"),
            );
        }
        if !(ratio.is_finite() && ratio > 0.0 && mlp_width(width, ratio) > 0) {
            self.fail(
                &format!("{tower}.mlp_ratio"),
                format!("{ratio} leaves the MLP without a hidden layer"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn all_problems_of_a_spec_come_together() {
        let mut spec = presets::find("ViT-Ti-16-64").unwrap();
        let ImageTowerSpec::Vit(vit) = &mut spec.image;
        vit.heads = 5;
        vit.image_size = 60;
        spec.text.context_length = 2;
        spec.embed_dim = 0;
        let fields: Vec<_> = spec.problems().into_iter().map(|p| p.field).collect();
        assert_eq!(
            fields,
            [
                "embed_dim",
                "image.image_size",
                "image.heads",
                "text.context_length"
            ]
        );
    }
}
