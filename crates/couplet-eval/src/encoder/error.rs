//! Errors of opening a model, and of encoding images or texts.

use std::io;
use std::path::PathBuf;

use couplet_data::{EncodeError, SampleError, TokenizerError};
use couplet_model::{FolderError, Precision, PreprocessError};

#[cfg(not(feature = "hub"))]
use crate::no_pretrained::PretrainedError;
#[cfg(feature = "hub")]
use crate::pretrained::PretrainedError;

/// The model's tokenizer is not on disk, so the model can only encode images.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the model's tokenizer, {name}, is missing; put its tokenizer.json next to the model's config"
)]
pub struct MissingTokenizer {
    pub(super) name: String,
}

/// Why texts could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error(transparent)]
    Missing(#[from] MissingTokenizer),
    #[error("the text {text:?} cannot be tokenized")]
    NotEncoded {
        /// The text, or its beginning.
        text: String,
        source: EncodeError,
    },
}

impl TextError {
    pub(crate) fn not_encoded(text: &str, source: EncodeError) -> Self {
        const SHOWN: usize = 80;
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self::NotEncoded {
            text: shown,
            source,
        }
    }
}

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: cannot be read", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: names `{name}`, which is no file of a checkpoint's weights; open the weights by their \
         own path",
        path.display()
    )]
    NamesNoWeights { path: PathBuf, name: String },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Name(Box<PretrainedError>),
    /// Neither a path nor a name.
    #[error("{name}: there is no such path, and no such name: {hint}")]
    Unknown { name: String, hint: String },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    #[error("`preprocess.{key}` {message}")]
    UnsoundPreprocess { key: &'static str, message: String },
    #[error("the device does not support {precision}; use fp32")]
    Precision { precision: Precision },
    #[error(
        "the tokenizer has {tokenizer} tokens, but the text tower's vocabulary has {vocab_size}; \
         the tokenizer must be the one that the model was trained with"
    )]
    Vocabulary { tokenizer: usize, vocab_size: usize },
}

impl From<PretrainedError> for OpenError {
    fn from(error: PretrainedError) -> Self {
        Self::Name(Box::new(error))
    }
}

/// Why an image could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The error's text names the file.
    #[error("{}", .0.detail)]
    Unreadable(SampleError),
    #[error(
        "{}: {}: {}; expected a JPEG, PNG, WebP, GIF, BMP or TIFF image",
        path.display(), error.cause, error.detail
    )]
    Unusable { path: PathBuf, error: SampleError },
}
