//! Parquet tables with images and labels or captions.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LabelledError, LabelledSet, Part, part_of};
use crate::source::Patterns;

/// `source = "parquet"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledParquetTable {
    pub files: Patterns,
    /// The same of images that a probe is fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_files: Option<Patterns>,
    /// Bytes of image files, paths of them, or Hugging Face's `{bytes, path}`.
    #[serde(default = "default_image_column")]
    pub image_column: String,
    /// Numbers of classes from 0 on, or their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Texts, or lists of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_column: Option<String>,
    /// The folder that relative image paths start from; by default the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

fn default_image_column() -> String {
    "image".into()
}

impl LabelledParquetTable {
    pub(super) fn open(&self, part: Part) -> Result<LabelledSet, LabelledError> {
        let place = PathBuf::from("files");
        let key = (place.as_path(), "train_files");
        let files = part_of(part, &self.files, self.train_files.as_ref(), key)?;
        let malformed = |message: String| LabelledError::malformed(&place, message);
        let (column, is_caption) = match (&self.label_column, &self.caption_column) {
            (Some(column), None) => (column, false),
            (None, Some(column)) => (column, true),
            _ => {
                return Err(malformed(
                    "set either label_column or caption_column".into(),
                ));
            }
        };
        self.read(files, column, is_caption).map_err(malformed)
    }

    #[cfg(not(feature = "parquet"))]
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    fn read(&self, _: &Patterns, _: &str, _: bool) -> Result<LabelledSet, String> {
        Err("this binary was built without Parquet; build it with `--features parquet`".into())
    }

    #[cfg(feature = "parquet")]
    fn read(
        &self,
        files: &Patterns,
        column: &str,
        is_caption: bool,
    ) -> Result<LabelledSet, String> {
        use super::Targets;
        use super::csv::class_numbers;
        use crate::source::{Labels, ParquetImages};

        if let Some((_, message)) = files.problems("files").into_iter().next() {
            return Err(message);
        }
        let root = self.root.clone().unwrap_or_default();
        let (images, labels) =
            ParquetImages::open(files.paths()?, &self.image_column, column, root)?;
        let (targets, class_names) = match labels {
            Labels::Numbers(numbers) if !is_caption => {
                (Targets::Classes(numbers), images.class_names.clone())
            }
            Labels::Texts(texts) if !is_caption => {
                let mut names = Vec::new();
                for (row, mut texts) in texts.into_iter().enumerate() {
                    match (texts.pop(), texts.is_empty()) {
                        (Some(name), true) => names.push(name),
                        _ => return Err(format!("row {row} has no label or several")),
                    }
                }
                let (numbers, names) = class_numbers(names);
                (Targets::Classes(numbers), names)
            }
            Labels::Texts(texts) => {
                if let Some(row) = texts.iter().position(Vec::is_empty) {
                    return Err(format!("row {row} has no caption"));
                }
                (Targets::Captions(texts), None)
            }
            Labels::Numbers(_) => return Err(format!("the column `{column}` holds numbers")),
        };
        Ok(LabelledSet {
            path: images.path(),
            class_names,
            templates: None,
            images: Box::new(images),
            targets,
        })
    }
}

#[cfg(feature = "parquet")]
impl super::Images for crate::source::ParquetImages {
    fn read(&self, index: usize) -> Result<crate::sample::Picture, crate::sample::Fault> {
        self.picture(index)
    }

    fn read_ahead(
        &self,
        range: std::ops::Range<usize>,
    ) -> Option<Vec<Result<crate::sample::Picture, crate::sample::Fault>>> {
        Some(self.pictures(range))
    }

    fn locate(&self, index: usize) -> (String, String) {
        self.place(index)
    }
}
