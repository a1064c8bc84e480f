//! A CSV or TSV table that names image files and their captions.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{MapDataset, PairDataset};
use crate::error::with_causes;
use crate::formats::DataError;
use crate::formats::csv::{CsvColumns, CsvRow};
use crate::formats::image_files::{read_image, root_problem};
use crate::listing::{ListedFile, fingerprint, hash_file};
use crate::sample::{ImageData, Sample, SampleError};

/// `source = "csv"`: a table of image paths and captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvConfig {
    /// Path of the CSV file.
    pub path: PathBuf,
    /// Column with the paths of the images.
    #[serde(default = "default_image_column")]
    pub image_column: String,
    /// Column with the captions.
    #[serde(default = "default_caption_column")]
    pub caption_column: String,
    /// Column separator, one ASCII character. By default a tab for `.tsv` files and a comma for
    /// others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<char>,
    /// Folder that relative image paths start from. By default the CSV file's own folder, or
    /// the working directory for an image that is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

fn default_image_column() -> String {
    "filepath".into()
}

fn default_caption_column() -> String {
    "title".into()
}

impl CsvConfig {
    /// A table with open_clip's columns, `filepath` and `title`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            image_column: default_image_column(),
            caption_column: default_caption_column(),
            separator: None,
            root: None,
        }
    }

    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self
            .separator
            .is_some_and(|separator| !separator.is_ascii())
        {
            problems.push(("separator", "must be one ASCII character".into()));
        }
        problems.extend(root_problem(self.root.as_ref()));
        if !self.path.is_file() {
            problems.push(("path", format!("{} is not a file", self.path.display())));
        } else if problems.is_empty()
            && let Err(error) = self.columns().check(&self.path)
        {
            problems.push(("path", with_causes(&error)));
        }
        problems
    }

    fn columns(&self) -> CsvColumns<'_> {
        CsvColumns {
            image: &self.image_column,
            value: (&self.caption_column, "caption_column"),
            separator: self.separator,
            root: self.root.as_deref(),
        }
    }

    pub(super) fn open(&self) -> Result<PairDataset, DataError> {
        CsvPairs::open(self).map(PairDataset::indexed)
    }
}

/// A table in memory; the images stay on disk.
#[derive(Debug)]
struct CsvPairs {
    path: PathBuf,
    rows: Vec<CsvRow>,
}

impl CsvPairs {
    fn open(table: &CsvConfig) -> Result<Self, DataError> {
        Ok(Self {
            rows: table.columns().rows(&table.path)?,
            path: table.path.clone(),
        })
    }
}

impl MapDataset for CsvPairs {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        let (path, caption) = self.rows[index].cells.clone()?;
        Ok(Sample {
            label: None,
            image: ImageData::Encoded(read_image(&path)?),
            caption,
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let line = self.rows[index].line;
        (self.path.display().to_string(), format!("line {line}"))
    }

    fn listing(&self) -> Vec<ListedFile> {
        let mut digest = fingerprint();
        let hashed = hash_file(&self.path, u64::MAX, &mut digest);
        let digest = hashed.is_ok().then_some(digest);
        vec![ListedFile::of_file(&self.path, Some(self.len()), digest)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::SkipCause;
    use std::fs;

    fn table(path: PathBuf) -> CsvConfig {
        CsvConfig {
            path,
            image_column: default_image_column(),
            caption_column: default_caption_column(),
            separator: None,
            root: None,
        }
    }

    #[test]
    fn relative_image_paths_start_from_the_tables_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), b"image").unwrap();
        let path = folder.path().join("t.csv");
        fs::write(
            &path,
            "title,filepath\n\"red, round\",a.png\n,a.png\nx,b.png\n",
        )
        .unwrap();
        let source = CsvPairs::open(&table(path)).unwrap();
        assert_eq!(source.len(), 3);
        assert_eq!(source.read(0, 0).unwrap().caption, "red, round");
        assert_eq!(
            source.read(1, 0).unwrap_err().cause,
            SkipCause::EmptyCaption
        );
        assert_eq!(
            source.read(2, 0).unwrap_err().cause,
            SkipCause::MissingImage
        );
        assert_eq!(source.locate(1, 0).1, "line 3");
    }

    #[test]
    fn tsv_files_are_split_at_tabs_and_columns_can_be_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), b"image").unwrap();
        let path = folder.path().join("t.tsv");
        fs::write(&path, "img\ttext\na.png\ta, b\n").unwrap();
        let table = CsvConfig {
            image_column: "img".into(),
            caption_column: "text".into(),
            ..table(path)
        };
        assert_eq!(table.problems(), []);
        assert_eq!(
            CsvPairs::open(&table).unwrap().read(0, 0).unwrap().caption,
            "a, b"
        );
    }

    #[test]
    fn the_error_for_a_missing_column_lists_the_available_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        fs::write(&path, "img,text\na.png,b\n").unwrap();
        let problems = table(path).problems();
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0]
                .1
                .contains("no column `filepath` among `img`, `text`")
        );
    }

    #[test]
    fn invalid_utf8_makes_one_bad_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        fs::write(&path, b"filepath,title\na.png,\xff\n").unwrap();
        let source = CsvPairs::open(&table(path)).unwrap();
        assert_eq!(
            source.read(0, 0).unwrap_err().cause,
            SkipCause::InvalidCaption
        );
    }
}
