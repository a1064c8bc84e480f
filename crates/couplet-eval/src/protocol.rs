//! Shared by the protocols: how images are read, and why an evaluation can fail.

use crate::dataset::{Dataset, DatasetError};
use crate::encoder::{Encoder, MissingTokenizer};
use crate::features::{FeatureCache, Features};

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Tokenizer(#[from] MissingTokenizer),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("{dataset}: no image could be read, such as {example}")]
    NothingRead { dataset: String, example: String },
    #[error("{0}")]
    Features(String),
}

/// How images are read for an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct EvalOptions<'a> {
    /// Larger images are skipped.
    pub max_image_pixels: u64,
    /// Where image and text features are cached for other protocols.
    pub cache: Option<&'a FeatureCache>,
}

/// The features of a dataset's images; an error if no image can be read.
pub(crate) fn read_features(
    encoder: &Encoder,
    dataset: &Dataset,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Features, EvalError> {
    let (images, max_pixels) = (&dataset.images, options.max_image_pixels);
    let features = Features::cached(encoder, images, max_pixels, options.cache, progress);
    if features.is_empty() {
        let example = features.skipped.first().map_or(String::new(), |one| {
            format!("{}: {}: {}", one.shard, one.cause, one.detail)
        });
        return Err(EvalError::NothingRead {
            dataset: dataset.name.clone(),
            example,
        });
    }
    Ok(features)
}
