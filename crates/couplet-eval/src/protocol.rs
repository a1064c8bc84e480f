//! Shared by the protocols: how images are read, and why an evaluation can fail.

use couplet_data::DEFAULT_MAX_IMAGE_PIXELS;

use crate::classifier::ClassifierError;
use crate::dataset::{Dataset, DatasetError};
use crate::encoder::{Encoder, MissingTokenizer, TextError};
use crate::feature_cache::FeatureCache;
use crate::feature_error::FeatureError;
use crate::features::Features;

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    #[error(transparent)]
    Images(#[from] FeatureError),
    #[error("{0}")]
    Features(String),
}

impl From<MissingTokenizer> for EvalError {
    fn from(error: MissingTokenizer) -> Self {
        Self::Text(error.into())
    }
}

/// How images are read for an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct EvalOptions<'a> {
    /// Larger images cannot be used.
    pub max_image_pixels: u64,
    /// Where image and text features are cached for other protocols.
    pub cache: Option<&'a FeatureCache>,
}

impl Default for EvalOptions<'_> {
    /// The largest images that training takes by default, and no cache.
    fn default() -> Self {
        Self {
            max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
            cache: None,
        }
    }
}

/// The features of a dataset's images.
pub(crate) fn read_features(
    encoder: &Encoder,
    dataset: &Dataset,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Features, FeatureError> {
    let (images, max_pixels) = (&dataset.images, options.max_image_pixels);
    Features::cached(encoder, images, max_pixels, options.cache, progress)
}
