//! Shared by the protocols: how an evaluation is run, and why it can fail.

use couplet_data::DEFAULT_MAX_IMAGE_PIXELS;

use crate::classifier::ClassifierError;
use crate::dataset::DatasetError;
use crate::division::{Division, DivisionError};
use crate::encoder::{MissingTokenizer, TextError};
use crate::feature_cache::FeatureCache;
use crate::feature_error::FeatureError;

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
    #[error(transparent)]
    Division(#[from] DivisionError),
    #[error("{0}")]
    Features(String),
}

impl From<MissingTokenizer> for EvalError {
    fn from(error: MissingTokenizer) -> Self {
        Self::Text(error.into())
    }
}

/// How an evaluation is run.
#[derive(Debug, Clone, Copy)]
pub struct EvalOptions<'a> {
    /// Larger images cannot be used.
    pub max_image_pixels: u64,
    /// Where image and text features are cached for other protocols.
    pub cache: Option<&'a FeatureCache>,
    /// The ranks that compute the features together; `None` to compute them alone. Only the cache of rank
    /// 0 is used. Probes compute all features on every rank.
    pub division: Option<&'a dyn Division>,
}

impl Default for EvalOptions<'_> {
    /// The largest images that training takes by default, no cache, alone.
    fn default() -> Self {
        Self {
            max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
            cache: None,
            division: None,
        }
    }
}
