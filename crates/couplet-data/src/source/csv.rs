//! A CSV or TSV table that names image files and their captions.

use std::path::{Path, PathBuf};

use csv::ByteRecord;
use serde::{Deserialize, Serialize};

use super::captions::caption_text;
use super::{MapDataset, SourceError};
use crate::csv_table::CsvFile;
use crate::sample::{ImageData, Sample, SampleError, SkipCause};

/// `source = "csv"`. The column names are open_clip's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvConfig {
    pub path: PathBuf,
    #[serde(default = "default_image_column")]
    pub image_column: String,
    #[serde(default = "default_caption_column")]
    pub caption_column: String,
    /// One character. By default a tab for `.tsv` files and a comma for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<char>,
    /// The folder that relative image paths start from. By default the table's own, or
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
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self
            .separator
            .is_some_and(|separator| !separator.is_ascii())
        {
            problems.push(("separator", "must be one ASCII character".into()));
        }
        if let Some(root) = self.root.as_ref().filter(|root| !root.is_dir()) {
            problems.push(("root", format!("{} is not a folder", root.display())));
        }
        if !self.path.is_file() {
            problems.push(("path", format!("{} is not a file", self.path.display())));
        } else if problems.is_empty()
            && let Err(error) = self.columns()
        {
            problems.push(("path", error.to_string()));
        }
        problems
    }

    fn malformed(&self, message: &dyn std::fmt::Display) -> SourceError {
        SourceError {
            path: self.path.clone(),
            message: message.to_string(),
        }
    }

    /// The table behind its header, with the positions of the image and the caption column.
    fn columns(&self) -> Result<(csv::Reader<std::fs::File>, usize, usize), SourceError> {
        let table = CsvFile::open(&self.path, self.separator, true)
            .map_err(|error| self.malformed(&error))?;
        let find = |wanted: &str, key: &str| {
            let place = table.column(wanted, key);
            place.map_err(|message| self.malformed(&message))
        };
        let image = find(&self.image_column, "image_column")?;
        let caption = find(&self.caption_column, "caption_column")?;
        Ok((table.reader, image, caption))
    }

    /// Where an image named in the table lies.
    fn image_path(&self, name: &str) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let path = self.root.as_deref().unwrap_or(folder).join(name);
        if self.root.is_none() && !path.exists() {
            return PathBuf::from(name);
        }
        path
    }
}

#[derive(Debug)]
struct Row {
    line: u64,
    content: Result<(PathBuf, String), SampleError>,
}

/// A table read into memory; the images stay on disk.
#[derive(Debug)]
pub(super) struct CsvSource {
    path: PathBuf,
    rows: Vec<Row>,
}

impl CsvSource {
    pub(super) fn open(table: &CsvConfig) -> Result<Self, SourceError> {
        let (mut reader, image, caption) = table.columns()?;
        let mut rows = Vec::new();
        let mut record = ByteRecord::new();
        loop {
            let line = reader.position().line();
            match reader.read_byte_record(&mut record) {
                Ok(false) => break,
                Ok(true) => rows.push(Row {
                    line: record.position().map_or(line, csv::Position::line),
                    content: parse_row(table, &record, image, caption),
                }),
                Err(error) if error.is_io_error() => {
                    return Err(table.malformed(&error));
                }
                Err(error) => rows.push(Row {
                    line,
                    content: Err(SampleError::new(SkipCause::InvalidCaption, error)),
                }),
            }
        }
        if rows.is_empty() {
            return Err(table.malformed(&"the table has a header but no rows"));
        }
        Ok(Self {
            path: table.path.clone(),
            rows,
        })
    }
}

fn parse_row(
    table: &CsvConfig,
    record: &ByteRecord,
    image: usize,
    caption: usize,
) -> Result<(PathBuf, String), SampleError> {
    let name = record
        .get(image)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| {
            SampleError::new(
                SkipCause::MissingImage,
                format!("no `{}`", table.image_column),
            )
        })?;
    let name = std::str::from_utf8(name)
        .map_err(|error| SampleError::new(SkipCause::MissingImage, error))?;
    let caption = record.get(caption).ok_or_else(|| {
        SampleError::new(
            SkipCause::MissingCaption,
            format!("no `{}`", table.caption_column),
        )
    })?;
    Ok((table.image_path(name), caption_text(caption.to_vec())?))
}

impl MapDataset for CsvSource {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        let (path, caption) = self.rows[index].content.clone()?;
        let bytes = std::fs::read(&path).map_err(|error| {
            let cause = if error.kind() == std::io::ErrorKind::NotFound {
                SkipCause::MissingImage
            } else {
                SkipCause::Unreadable
            };
            SampleError::new(cause, format!("{}: {error}", path.display()))
        })?;
        Ok(Sample {
            label: None,
            picture: ImageData::Encoded(bytes),
            caption,
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let row = &self.rows[index];
        (
            self.path.display().to_string(),
            format!("line {}", row.line),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn images_are_found_beside_the_table() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), b"image").unwrap();
        let path = folder.path().join("t.csv");
        fs::write(
            &path,
            "title,filepath\n\"red, round\",a.png\n,a.png\nx,b.png\n",
        )
        .unwrap();
        let source = CsvSource::open(&table(path)).unwrap();
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
            CsvSource::open(&table).unwrap().read(0, 0).unwrap().caption,
            "a, b"
        );
    }

    #[test]
    fn a_missing_column_names_those_there_are() {
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
    fn invalid_utf8_is_one_bad_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        fs::write(&path, b"filepath,title\na.png,\xff\n").unwrap();
        let source = CsvSource::open(&table(path)).unwrap();
        assert_eq!(
            source.read(0, 0).unwrap_err().cause,
            SkipCause::InvalidCaption
        );
    }
}
