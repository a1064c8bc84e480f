//! How images are preprocessed for a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From any image to the model's square input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessSpec {
    /// Mean of each channel, subtracted from RGB values in the range from 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, which RGB values are divided by after the mean is
    /// subtracted.
    #[schemars(inner(range(min = 0.0)))]
    pub std: [f32; 3],
    /// Interpolation of the resize.
    pub interpolation: Interpolation,
    /// How an image that is not square becomes square.
    pub resize_mode: ResizeMode,
    /// Gray level of the padding of `resize_mode = "longest"`, from 0 to 255.
    pub fill_color: u8,
}

/// Interpolation of a resize, antialiased as in PIL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Bicubic.
    #[default]
    Bicubic,
    /// Bilinear.
    Bilinear,
}

/// How an image that is not square becomes square.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeMode {
    /// The shorter side fills the square; the rest is cropped.
    #[default]
    Shortest,
    /// The longer side fills the square; the rest is padded with `fill_color`.
    Longest,
    /// Both sides fill the square, whatever the aspect ratio.
    Squash,
}

#[expect(
    clippy::excessive_precision,
    reason = "the constants as open_clip writes them"
)]
impl Default for PreprocessSpec {
    /// OpenAI's constants, which are open_clip's defaults.
    fn default() -> Self {
        Self {
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
            interpolation: Interpolation::default(),
            resize_mode: ResizeMode::default(),
            fill_color: 0,
        }
    }
}

/// A key of the preprocessing that cannot be set to a value.
#[derive(Debug, thiserror::Error)]
#[error("`preprocess.{key}` cannot be set to `{value}`")]
pub struct PreprocessError {
    pub key: String,
    pub value: String,
    pub source: Box<toml::de::Error>,
}

impl PreprocessSpec {
    /// A copy with one value replaced.
    /// - value: in TOML; a bare word is a string.
    ///
    /// # Errors
    /// If there is no such key, or the value has the wrong type.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, PreprocessError> {
        let mut table = toml::Table::try_from(self).expect("plain values serialise");
        let parsed = format!("value = {value}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("value"));
        table.insert(key.to_string(), parsed.unwrap_or_else(|| value.into()));
        table.try_into().map_err(|source| PreprocessError {
            key: key.to_string(),
            value: value.to_string(),
            source: Box::new(source),
        })
    }

    /// Every invalid value, with its key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            problems.push(("mean", "must be finite numbers".into()));
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            problems.push(("std", "must be positive numbers".into()));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_values_are_replaced_by_their_key() {
        let spec = PreprocessSpec::default();
        let spec = spec.with("resize_mode", "squash").unwrap();
        let spec = spec.with("mean", "[0.5, 0.5, 0.5]").unwrap();
        assert_eq!(spec.resize_mode, ResizeMode::Squash);
        assert_eq!(spec.mean, [0.5; 3]);
        let error = spec.with("resize_mode", "stretch").unwrap_err();
        assert!(error.source.message().contains("squash"), "{error:?}");
        let error = spec.with("meen", "1").unwrap_err();
        assert_eq!(error.to_string(), "`preprocess.meen` cannot be set to `1`");
    }
}
