//! Parquet tables, as img2dataset and Hugging Face write them.

#[cfg(feature = "parquet")]
mod reader;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::Patterns;
use super::{Source, SourceError};

/// `source = "parquet"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetTable {
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
}

fn default_image_column() -> String {
    "image".into()
}

fn default_caption_column() -> String {
    "caption".into()
}

impl ParquetTable {
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
        problems
    }

    /// - seed: what one of several captions is drawn from.
    #[cfg(feature = "parquet")]
    pub(super) fn open(&self, seed: u64) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(reader::ParquetSource::open(self, seed)?))
    }

    #[cfg(not(feature = "parquet"))]
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    pub(super) fn open(&self, _seed: u64) -> Result<Box<dyn Source>, SourceError> {
        Err(SourceError {
            path: PathBuf::from("data.train.source"),
            message: "this binary was built without Parquet".into(),
        })
    }
}
