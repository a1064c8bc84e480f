//! Parquet tables with images and labels or captions.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ColumnKind, LabelledDataset, LabelledError, Split, label_or_caption, part_of};
use crate::source::Patterns;

/// `source = "parquet"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledParquetConfig {
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

impl LabelledParquetConfig {
    pub(super) fn open(&self, part: Split) -> Result<LabelledDataset, LabelledError> {
        let place = PathBuf::from("files");
        let key = (place.as_path(), "train_files");
        let files = part_of(part, &self.files, self.train_files.as_ref(), key)?;
        let malformed = |message: String| LabelledError::malformed(&place, message);
        let column = label_or_caption(self.label_column.as_ref(), self.caption_column.as_ref());
        let (column, kind) = column.map_err(malformed)?;
        self.read(files, column, kind).map_err(malformed)
    }

    #[cfg(not(feature = "parquet"))]
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    fn read(&self, _: &Patterns, _: &str, _: ColumnKind) -> Result<LabelledDataset, String> {
        Err("this binary was built without Parquet; build it with `--features parquet`".into())
    }

    #[cfg(feature = "parquet")]
    fn read(
        &self,
        files: &Patterns,
        column: &str,
        kind: ColumnKind,
    ) -> Result<LabelledDataset, String> {
        use super::Targets;
        use super::csv::class_numbers;
        use crate::source::{Labels, ParquetImages};

        if let Some((_, message)) = files.problems("files").into_iter().next() {
            return Err(message);
        }
        let root = self.root.clone().unwrap_or_default();
        let (images, labels) =
            ParquetImages::open(files.paths()?, &self.image_column, column, root)?;
        let (targets, class_names) = match (labels, kind) {
            (Labels::Numbers(numbers), ColumnKind::Label) => {
                (Targets::Classes(numbers), images.class_names.clone())
            }
            (Labels::Texts(texts), ColumnKind::Label) => {
                let mut names = Vec::new();
                for (row, mut texts) in texts.into_iter().enumerate() {
                    match (texts.pop(), texts.is_empty()) {
                        (Some(name), true) => names.push(name),
                        _ => return Err(format!("row {row} has no label or several")),
                    }
                }
                let (numbers, names) = class_numbers(&names);
                (Targets::Classes(numbers), names)
            }
            (Labels::Texts(texts), ColumnKind::Caption) => {
                if let Some(row) = texts.iter().position(Vec::is_empty) {
                    return Err(format!("row {row} has no caption"));
                }
                (Targets::Captions(texts), None)
            }
            (Labels::Numbers(_), ColumnKind::Caption) => {
                return Err(format!("the column `{column}` holds numbers"));
            }
        };
        Ok(LabelledDataset {
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
    fn read(&self, index: usize) -> Result<crate::sample::ImageData, crate::sample::SampleError> {
        self.picture(index)
    }

    fn read_ahead(
        &self,
        range: std::ops::Range<usize>,
    ) -> Option<Vec<Result<crate::sample::ImageData, crate::sample::SampleError>>> {
        Some(self.pictures(range))
    }

    fn locate(&self, index: usize) -> (String, String) {
        self.place(index)
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use super::super::Targets;
    use super::*;
    use crate::sample::ImageData;

    fn table(name: &str, label: Option<&str>, caption: Option<&str>) -> LabelledParquetConfig {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
        LabelledParquetConfig {
            files: Patterns::One(format!("{folder}{name}.parquet")),
            train_files: None,
            image_column: "image".into(),
            label_column: label.map(str::to_string),
            caption_column: caption.map(str::to_string),
            root: None,
        }
    }

    /// Made by `tests/fixtures/make_parquet.py`, as Hugging Face notes a set's features.
    #[test]
    fn labels_are_numbers_or_names() {
        let wanted = Targets::Classes(vec![0, 1, 2, 0, 1, 2, 0]);
        for column in ["label", "name"] {
            let set = table("labels", Some(column), None)
                .open(Split::Test)
                .unwrap();
            assert_eq!(*set.targets(), wanted);
            assert_eq!(set.class_names().unwrap(), ["cat", "dog", "owl"]);
        }
        let set = table("labels", Some("label"), None)
            .open(Split::Test)
            .unwrap();
        let together = set.images.read_ahead(2..7).unwrap();
        for (index, picture) in (2..7).zip(together) {
            for picture in [picture, set.images.read(index)] {
                let Ok(ImageData::Encoded(bytes)) = picture else {
                    unreachable!("the table holds bytes");
                };
                assert_eq!(bytes, format!("image {index}").into_bytes());
            }
        }
    }

    #[test]
    fn lists_are_captions() {
        let set = table("hugging_face", None, Some("captions"))
            .open(Split::Test)
            .unwrap();
        let Targets::Captions(captions) = set.targets() else {
            unreachable!("they were asked for");
        };
        assert_eq!(captions[1], ["first 1", "second 1"]);
        let error = table("labels", None, Some("label"))
            .open(Split::Test)
            .unwrap_err();
        assert!(error.to_string().contains("holds numbers"), "{error}");
        let error = table("labels", Some("label"), None)
            .open(Split::Train)
            .unwrap_err();
        assert!(error.to_string().contains("set train_files"), "{error}");
    }
}
