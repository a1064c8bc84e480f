//! Parquet tables, as img2dataset and Hugging Face write them.

#[cfg(feature = "parquet")]
mod labels;
#[cfg(feature = "parquet")]
mod reader;
#[cfg(feature = "parquet")]
mod row_groups;
#[cfg(feature = "parquet")]
mod values;

#[cfg(feature = "parquet")]
pub(crate) use labels::{Labels, ParquetImages};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::Patterns;
use super::{PairDataset, SourceError};
use crate::stream::DEFAULT_SHUFFLE_BUFFER;

/// `source = "parquet"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    pub files: Patterns,
    /// Bytes of image files, paths of them, or Hugging Face's `{bytes, path}`.
    #[serde(default = "default_image_column")]
    pub image_column: String,
    /// Texts, or lists of texts of which one is drawn each epoch.
    #[serde(default = "default_caption_column")]
    pub caption_column: String,
    /// The folder that relative image paths start from; by default the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Read row groups from front to back, and shuffle what comes in a buffer. Otherwise
    /// rows are read at random, each for the price of decoding its page. By default where
    /// a row group has so many bytes of images that this would be slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Rows of a stream that are shuffled together; twice as many are in memory.
    #[serde(default = "default_shuffle_buffer")]
    pub shuffle_buffer: usize,
}

fn default_shuffle_buffer() -> usize {
    DEFAULT_SHUFFLE_BUFFER
}

fn default_image_column() -> String {
    "image".into()
}

fn default_caption_column() -> String {
    "caption".into()
}

impl ParquetConfig {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        if cfg!(not(feature = "parquet")) {
            let message =
                "this binary was built without Parquet; build it with `--features parquet`";
            return vec![("source", message.into())];
        }
        let mut problems = self.files.problems("files");
        if let Some(root) = self.root.as_ref().filter(|root| !root.is_dir()) {
            problems.push(("root", format!("{} is not a folder", root.display())));
        }
        if self.shuffle_buffer == 0 {
            problems.push(("shuffle_buffer", "must be at least 1".into()));
        }
        problems
    }

    /// - seed: what one of several captions is drawn from.
    #[cfg(feature = "parquet")]
    pub(super) fn open(&self, seed: u64) -> Result<PairDataset, SourceError> {
        reader::ParquetTables::open(self, seed)
    }

    #[cfg(not(feature = "parquet"))]
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    pub(super) fn open(&self, _seed: u64) -> Result<PairDataset, SourceError> {
        Err(SourceError {
            path: PathBuf::from("source"),
            message: "this binary was built without Parquet".into(),
        })
    }
}
