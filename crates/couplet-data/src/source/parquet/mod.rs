//! Parquet files, as img2dataset and Hugging Face write them.

#[cfg(feature = "parquet")]
mod row_groups;
#[cfg(feature = "parquet")]
mod rows;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::PairDataset;
use crate::formats::image_files::root_problem;
#[cfg(feature = "parquet")]
use crate::formats::parquet::file::ParquetColumns;
use crate::formats::patterns::WITHOUT_PARQUET;
use crate::formats::{DataError, Patterns};
use crate::stream::DEFAULT_SHUFFLE_BUFFER;

/// `source = "parquet"`: Parquet files of images and captions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// Parquet files. `{0000..0003}`, `{a,b}`, `*` and `?` are expanded.
    #[schemars(extend("examples" = ["data/{0000..0099}.parquet"]))]
    pub files: Patterns,
    /// Column with the images: encoded bytes, paths, or Hugging Face's `{bytes, path}`.
    #[serde(default = "default_image_column")]
    pub image_column: String,
    /// Column with the captions: texts, or lists of texts of which one is drawn in each epoch.
    #[serde(default = "default_caption_column")]
    pub caption_column: String,
    /// Folder that relative image paths start from. By default the Parquet file's own folder,
    /// or the working directory for an image that is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Reads row groups from front to back and shuffles in a buffer, instead of reading rows at
    /// random. By default only if row groups are so large that random reads would be slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Number of streamed rows that are shuffled together; twice as many are in memory.
    #[serde(default = "default_shuffle_buffer")]
    #[schemars(range(min = 1))]
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
    /// With the columns `image` and `caption`.
    pub fn new(files: Patterns) -> Self {
        Self {
            files,
            image_column: default_image_column(),
            caption_column: default_caption_column(),
            root: None,
            stream: None,
            shuffle_buffer: default_shuffle_buffer(),
        }
    }

    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        if cfg!(not(feature = "parquet")) {
            return vec![("source", WITHOUT_PARQUET.into())];
        }
        let mut problems = self.files.problems("files");
        problems.extend(root_problem(self.root.as_ref()));
        if self.shuffle_buffer == 0 {
            problems.push(("shuffle_buffer", "must be at least 1".into()));
        }
        problems
    }

    /// - seed: seed of choosing among several captions.
    #[cfg(feature = "parquet")]
    pub(super) fn open(&self, seed: u64) -> Result<PairDataset, DataError> {
        use std::sync::Arc;

        let rows = self.rows(seed)?;
        if !self.stream.unwrap_or_else(|| rows.files.has_large_groups()) {
            return Ok(PairDataset::indexed(rows));
        }
        let groups = row_groups::RowGroups::new(rows, self.shuffle_buffer);
        Ok(PairDataset::Stream(Arc::new(groups)))
    }

    #[cfg(feature = "parquet")]
    fn rows(&self, seed: u64) -> Result<rows::ParquetPairs, DataError> {
        let columns = ParquetColumns {
            image: (&self.image_column, "image_column"),
            value: (&self.caption_column, "caption_column"),
            root: self.root.as_deref(),
        };
        let paths = self.files.paths();
        let paths = paths.map_err(|message| DataError::key("files", message))?;
        rows::ParquetPairs::open(paths, columns, seed)
    }

    #[cfg(not(feature = "parquet"))]
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    pub(super) fn open(&self, _seed: u64) -> Result<PairDataset, DataError> {
        Err(crate::formats::patterns::without_parquet())
    }
}
