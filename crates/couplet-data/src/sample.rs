//! Image-text samples, and errors about them.

use std::fmt;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::error::{printable, printable_text, with_causes};
use crate::tokenizer::EncodeError;

/// One image-text pair of a dataset.
#[derive(Debug, Clone)]
pub struct Sample {
    pub image: ImageData,
    pub caption: String,
    /// The class number, if the dataset has classes.
    pub label: Option<usize>,
}

/// An image, encoded or as pixels.
#[derive(Debug, Clone)]
pub enum ImageData {
    /// The bytes of an image file, such as JPEG, PNG or WebP.
    Encoded(Vec<u8>),
    Pixels(RgbImage),
}

/// A sample that was skipped: a line of `skipped.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub epoch: u64,
    /// The file that holds the sample: a shard, a table, or the image itself.
    pub shard: String,
    /// The sample's key in the shard: a member's stem, a row number, or a path.
    pub key: String,
    pub cause: SkipCause,
    pub detail: String,
    /// The number of samples skipped: 1, or the estimated number lost to a shard's damage.
    pub samples: usize,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shard,
            key,
            cause,
            detail,
            ..
        } = self;
        let [shard, key] = [shard, key].map(|name| printable(name));
        write!(f, "{shard}: {key}: {cause}: {}", printable_text(detail))
    }
}

/// Why a sample was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipCause {
    /// The file or shard member could not be read.
    Unreadable,
    /// The image's bytes cannot be decoded.
    CorruptImage,
    /// More pixels than `data.max_image_pixels`.
    OversizedImage,
    MissingImage,
    MissingCaption,
    EmptyCaption,
    /// The caption is not UTF-8, its JSON or CSV record does not parse, or the tokenizer has no ids
    /// for it.
    InvalidCaption,
}

impl fmt::Display for SkipCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::CorruptImage => "corrupt image",
            Self::OversizedImage => "oversized image",
            Self::MissingImage => "missing image",
            Self::MissingCaption => "missing caption",
            Self::EmptyCaption => "empty caption",
            Self::InvalidCaption => "invalid caption",
        })
    }
}

/// Why a sample is unusable, with the message of the decoder or the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleError {
    pub cause: SkipCause,
    pub detail: String,
    /// The number of samples lost.
    pub samples: usize,
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause, printable_text(&self.detail))
    }
}

impl std::error::Error for SampleError {}

impl From<EncodeError> for SampleError {
    fn from(error: EncodeError) -> Self {
        Self::new(SkipCause::InvalidCaption, with_causes(&error))
    }
}

impl SampleError {
    pub fn new(cause: SkipCause, detail: impl fmt::Display) -> Self {
        Self {
            cause,
            detail: detail.to_string(),
            samples: 1,
        }
    }

    /// An image whose bytes cannot be decoded.
    pub(crate) fn corrupt(detail: impl fmt::Display) -> Self {
        Self::new(SkipCause::CorruptImage, detail)
    }

    /// The entry of `skipped.jsonl` for this error.
    /// - place: the shard, and the key in it.
    pub(crate) fn at(self, epoch: u64, place: (String, String)) -> Skipped {
        Skipped {
            epoch,
            shard: place.0,
            key: place.1,
            cause: self.cause,
            detail: self.detail,
            samples: self.samples,
        }
    }
}
