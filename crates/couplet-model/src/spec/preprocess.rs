//! How images are preprocessed for a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The highest `resize_size`.
const MAX_RESIZE_SIZE: u32 = 65_535;

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
    /// Side in pixels that `resize_mode` resizes to; the center is cropped to the model's image size.
    /// By default the image size. Not with `resize_mode = "longest"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if, range(min = 1, max = 65_535))]
    pub resize_size: Option<u32>,
    /// Rounding of the center crop's offset if the number of surplus pixels is odd.
    pub crop_rounding: CropRounding,
    /// Gray level of the padding of `resize_mode = "longest"`, from 0 to 255.
    pub fill_color: u8,
}

/// Interpolation of a resize: PIL's filters, all but `nearest` antialiased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Bicubic.
    #[default]
    Bicubic,
    /// Bilinear.
    Bilinear,
    /// The nearest pixel.
    Nearest,
    /// The mean of the pixels that an output pixel covers.
    Box,
    /// Hamming-windowed sinc of radius 1.
    Hamming,
    /// Lanczos-windowed sinc of radius 3.
    Lanczos,
}

impl Interpolation {
    /// As configs write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bicubic => "bicubic",
            Self::Bilinear => "bilinear",
            Self::Nearest => "nearest",
            Self::Box => "box",
            Self::Hamming => "hamming",
            Self::Lanczos => "lanczos",
        }
    }

    pub(crate) const ALL: [Self; 6] = [
        Self::Bicubic,
        Self::Bilinear,
        Self::Nearest,
        Self::Box,
        Self::Hamming,
        Self::Lanczos,
    ];
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

/// Rounding of a center crop's offset if the number of surplus pixels is odd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CropRounding {
    /// To an even offset, as in torchvision and open_clip.
    #[default]
    HalfEven,
    /// Down, as in transformers.
    Down,
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
            resize_size: None,
            crop_rounding: CropRounding::default(),
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

    /// As it is for a model whose images had `from` pixels a side and now have `to`: the resize is
    /// scaled with them, so that the crop is the same share of the image.
    #[must_use]
    pub fn scaled(mut self, from: usize, to: usize) -> Self {
        if let Some(side) = self.resize_size
            && from != to
        {
            let scaled = (side as usize * to + from / 2) / from.max(1);
            self.resize_size = Some(u32::try_from(scaled).unwrap_or(u32::MAX));
        }
        self
    }

    /// Every invalid value, with its key.
    /// - image_size: the model's.
    pub fn problems(&self, image_size: usize) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Some(side) = self.resize_size {
            if self.resize_mode == ResizeMode::Longest {
                let message = "cannot be set with resize_mode = \"longest\", which does not crop";
                problems.push(("resize_size", message.into()));
            } else if (side as usize) < image_size || side > MAX_RESIZE_SIZE {
                let message = format!(
                    "must be from {image_size}, the model's image size, to {MAX_RESIZE_SIZE}, not {side}"
                );
                problems.push(("resize_size", message));
            }
        }
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
        let spec = spec.with("resize_size", "256").unwrap();
        assert_eq!(spec.resize_size, Some(256));
        let error = spec.with("meen", "1").unwrap_err();
        assert_eq!(error.to_string(), "`preprocess.meen` cannot be set to `1`");
    }

    #[test]
    fn a_resize_below_the_image_size_is_a_problem_and_grows_with_it() {
        let spec = PreprocessSpec::default().with("resize_size", "80").unwrap();
        assert_eq!(spec.problems(64), []);
        assert_eq!(spec.problems(81)[0].0, "resize_size");
        let larger = spec.clone().scaled(64, 128);
        assert_eq!(larger.resize_size, Some(160));
        let padded = spec.with("resize_mode", "longest").unwrap();
        assert_eq!(padded.problems(64)[0].0, "resize_size");
    }
}
