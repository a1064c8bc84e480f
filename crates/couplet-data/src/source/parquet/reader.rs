//! Rows of Parquet files, each read on its own: of a column's chunk only the page that
//! holds the row is decompressed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelector,
};
use parquet::file::metadata::PageIndexPolicy;

use super::super::captions::{CaptionRule, caption_text};
use super::super::{Source, SourceError};
use super::ParquetTable;
use crate::sample::{Fault, Picture, Sample, SkipCause};

/// One file's rows.
struct Table {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// The two columns that are read.
    projection: ProjectionMask,
    /// The number of its first row among those of all files.
    first: usize,
    rows: usize,
}

/// Rows of several files, indexed by their footers.
pub(super) struct ParquetSource {
    tables: Vec<Table>,
    image_column: String,
    caption_column: String,
    root: PathBuf,
    captions: CaptionRule,
}

impl ParquetSource {
    pub(super) fn open(table: &ParquetTable, seed: u64) -> Result<Self, SourceError> {
        let paths = table.files.paths().map_err(|message| SourceError {
            path: PathBuf::from("data.train.files"),
            message,
        })?;
        let mut tables = Vec::new();
        let mut first = 0;
        for path in paths {
            let table = Table::open(&path, first, table)
                .map_err(|message| SourceError { path, message })?;
            first += table.rows;
            tables.push(table);
        }
        if first == 0 {
            return Err(SourceError {
                path: PathBuf::from("data.train.files"),
                message: "the tables have no rows".into(),
            });
        }
        Ok(Self {
            tables,
            image_column: table.image_column.clone(),
            caption_column: table.caption_column.clone(),
            root: table.root.clone().unwrap_or_default(),
            captions: CaptionRule {
                seed,
                ..CaptionRule::default()
            },
        })
    }

    fn find(&self, index: usize) -> &Table {
        let at = self
            .tables
            .partition_point(|table| table.first + table.rows <= index);
        &self.tables[at]
    }
}

impl Table {
    fn open(path: &Path, first: usize, table: &ParquetTable) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        // Arrow's own note of the types would bring dictionaries and views back.
        let options = ArrowReaderOptions::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_skip_arrow_metadata(true);
        let metadata =
            ArrowReaderMetadata::load(&file, options).map_err(|error| error.to_string())?;
        let fields = metadata.schema().fields();
        let find = |wanted: &str, key: &str| {
            fields
                .iter()
                .position(|field| field.name() == wanted)
                .ok_or_else(|| {
                    let names: Vec<&str> =
                        fields.iter().map(|field| field.name().as_str()).collect();
                    format!(
                        "no column `{wanted}` among `{}`; set {key}",
                        names.join("`, `")
                    )
                })
        };
        let columns = [
            find(&table.image_column, "image_column")?,
            find(&table.caption_column, "caption_column")?,
        ];
        let projection = ProjectionMask::roots(metadata.parquet_schema(), columns);
        let rows = metadata.metadata().file_metadata().num_rows();
        Ok(Self {
            path: path.to_path_buf(),
            projection,
            first,
            rows: usize::try_from(rows).map_err(|error| error.to_string())?,
            metadata,
        })
    }

    /// The row's values of the two columns, by name.
    fn row(&self, index: usize) -> Result<arrow_array::RecordBatch, Fault> {
        let unreadable = |error: &dyn std::fmt::Display| Fault::new(SkipCause::Unreadable, error);
        let mut row = index - self.first;
        let mut group = 0;
        for rows in self.metadata.metadata().row_groups() {
            let rows = usize::try_from(rows.num_rows()).map_err(|error| unreadable(&error))?;
            if row < rows {
                break;
            }
            row -= rows;
            group += 1;
        }
        let selection = RowSelection::from(vec![RowSelector::skip(row), RowSelector::select(1)]);
        // A file of its own: clones of one share their position.
        let file = File::open(&self.path).map_err(|error| unreadable(&error))?;
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(self.projection.clone())
                .with_row_groups(vec![group])
                .with_row_selection(selection)
                .with_batch_size(1)
                .build();
        let batch = reader.map_err(|error| unreadable(&error))?.next();
        let batch = batch.ok_or_else(|| unreadable(&"the row group has no such row"))?;
        batch.map_err(|error| unreadable(&error))
    }
}

impl Source for ParquetSource {
    fn len(&self) -> usize {
        self.tables.last().map_or(0, |last| last.first + last.rows)
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, Fault> {
        let row = self.find(index).row(index)?;
        let column = |name: &str| {
            row.column_by_name(name).cloned().ok_or_else(|| {
                Fault::new(
                    SkipCause::Unreadable,
                    format!("the column `{name}` is gone"),
                )
            })
        };
        let image = column(&self.image_column)?;
        let picture = image_bytes(&image, &self.root)?;
        let caption = column(&self.caption_column)?;
        let missing = || Fault::new(SkipCause::MissingCaption, "the caption is null");
        let caption = if let Some(list) = list_of(&caption) {
            let texts = (0..list.len()).filter_map(|at| text_of(&list, at));
            self.captions.one_of(texts.collect(), index, epoch)?
        } else {
            caption_text(text_of(&caption, 0).ok_or_else(missing)?.into_bytes())?
        };
        Ok(Sample {
            picture: Picture::Encoded(picture),
            caption,
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let table = self.find(index);
        let row = index - table.first;
        (table.path.display().to_string(), format!("row {row}"))
    }
}

/// The values of a list in the first row.
fn list_of(column: &ArrayRef) -> Option<ArrayRef> {
    if let Some(list) = column.as_list_opt::<i32>() {
        return list.is_valid(0).then(|| list.value(0));
    }
    let list = column.as_list_opt::<i64>()?;
    list.is_valid(0).then(|| list.value(0))
}

fn text_of(column: &ArrayRef, at: usize) -> Option<String> {
    if column.is_null(at) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(texts.value(at).to_string());
    }
    if let Some(texts) = column.as_string_opt::<i64>() {
        return Some(texts.value(at).to_string());
    }
    column
        .as_string_view_opt()
        .map(|texts| texts.value(at).to_string())
}

fn bytes_of(column: &ArrayRef) -> Option<Vec<u8>> {
    if column.is_null(0) {
        return None;
    }
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        return Some(bytes.value(0).to_vec());
    }
    if let Some(bytes) = column.as_binary_opt::<i64>() {
        return Some(bytes.value(0).to_vec());
    }
    column
        .as_binary_view_opt()
        .map(|bytes| bytes.value(0).to_vec())
}

/// - root: what relative paths start from.
fn image_bytes(column: &ArrayRef, root: &Path) -> Result<Vec<u8>, Fault> {
    let missing = |what: &str| Fault::new(SkipCause::MissingImage, what);
    if column.is_null(0) {
        return Err(missing("the image is null"));
    }
    // Hugging Face's images: bytes, or else a path.
    let parts = column.as_struct_opt();
    let part = |name: &str| parts.and_then(|parts| parts.column_by_name(name));
    let bytes = part("bytes").map_or_else(|| bytes_of(column), bytes_of);
    if let Some(bytes) = bytes {
        return Ok(bytes);
    }
    let path = part("path").map_or_else(|| text_of(column, 0), |path| text_of(path, 0));
    let path = path.ok_or_else(|| missing("the image is neither bytes nor a path"))?;
    let path = root.join(path);
    fs::read(&path).map_err(|error| {
        let cause = if error.kind() == std::io::ErrorKind::NotFound {
            SkipCause::MissingImage
        } else {
            SkipCause::Unreadable
        };
        Fault::new(cause, format!("{}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files::Patterns;

    fn fixture(name: &str) -> String {
        format!(
            "{}/tests/fixtures/{name}.parquet",
            env!("CARGO_MANIFEST_DIR")
        )
    }

    fn open(name: &str, caption: &str) -> ParquetSource {
        let table = ParquetTable {
            files: Patterns::One(fixture(name)),
            image_column: "image".into(),
            caption_column: caption.into(),
            root: None,
        };
        assert_eq!(table.problems(), []);
        ParquetSource::open(&table, 0).unwrap()
    }

    fn bytes(sample: Sample) -> Vec<u8> {
        match sample.picture {
            Picture::Encoded(bytes) => bytes,
            Picture::Pixels(_) => unreachable!("tables hold files"),
        }
    }

    /// Made by `tests/fixtures/make_parquet.py`: 50 rows in groups of 20, pages of a few.
    #[test]
    fn every_row_is_found_in_its_page() {
        let source = open("bytes", "caption");
        assert_eq!(source.len(), 50);
        for index in (0..50).rev() {
            if index == 13 {
                let fault = source.read(index, 0).unwrap_err();
                assert_eq!(fault.cause, SkipCause::MissingCaption);
                continue;
            }
            let sample = source.read(index, 0).unwrap();
            assert_eq!(sample.caption, format!("caption {index}"));
            let wanted = format!("image {index} ").repeat(40);
            assert_eq!(bytes(sample), wanted.into_bytes());
        }
        assert_eq!(source.locate(31, 0).1, "row 31");
    }

    #[test]
    fn hugging_faces_images_and_lists_of_captions() {
        let source = open("hugging_face", "captions");
        let drawn: std::collections::BTreeSet<String> = (0..40)
            .map(|epoch| source.read(2, epoch).unwrap().caption)
            .collect();
        assert_eq!(
            drawn.into_iter().collect::<Vec<_>>(),
            ["first 2", "second 2"]
        );
        assert_eq!(bytes(source.read(2, 0).unwrap()), b"image 2");
        // Row 3 has a path to nowhere in place of bytes.
        assert_eq!(
            source.read(3, 0).unwrap_err().cause,
            SkipCause::MissingImage
        );
    }

    #[test]
    fn a_missing_column_names_those_there_are() {
        let table = ParquetTable {
            files: Patterns::One(fixture("bytes")),
            image_column: "jpg".into(),
            caption_column: "caption".into(),
            root: None,
        };
        let error = ParquetSource::open(&table, 0).err().unwrap().to_string();
        assert!(
            error.contains("no column `jpg` among `image`, `caption`"),
            "{error}"
        );
    }
}
