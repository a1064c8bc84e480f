//! Rows of Parquet files: each read on its own, for which of a column's chunk the page that
//! holds it is decompressed, or row groups from front to back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::PageIndexPolicy;

use super::super::captions::{CaptionRule, caption_text};
use super::super::{MapDataset, PairDataset, SourceError};
use super::ParquetConfig;
use super::row_groups::RowGroups;
use super::values::{image_bytes, is_caption_type, is_image_type, list_of, text_of};
use crate::sample::{ImageData, Sample, SampleError, SkipCause};

/// Bytes of a row group's images above which its rows are not read at random: decoding so
/// large a page takes about as long as decoding the image.
const MAX_RANDOM_GROUP: i64 = 2 << 20;
/// Rows that a stream decodes at once.
const ROWS: usize = 16;

/// One file's rows.
pub(super) struct Table {
    pub path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// The two columns that are read.
    projection: ProjectionMask,
    /// The number of its first row among those of all files.
    pub first: usize,
    pub rows: usize,
}

/// Rows of several files, indexed by their footers.
pub(super) struct ParquetTables {
    pub(super) tables: Vec<Table>,
    image_column: String,
    caption_column: String,
    root: PathBuf,
    captions: CaptionRule,
}

impl ParquetTables {
    pub(super) fn open(table: &ParquetConfig, seed: u64) -> Result<PairDataset, SourceError> {
        let tables = Self::read_footers(table, seed)?;
        let is_large = || tables.tables.iter().any(Table::has_large_groups);
        if !table.stream.unwrap_or_else(is_large) {
            return Ok(PairDataset::indexed(tables));
        }
        let groups = RowGroups::new(tables, table.shuffle_buffer);
        Ok(PairDataset::Stream(Arc::new(groups)))
    }

    fn read_footers(table: &ParquetConfig, seed: u64) -> Result<Self, SourceError> {
        let paths = table.files.paths().map_err(|message| SourceError {
            path: PathBuf::from("files"),
            message,
        })?;
        let mut tables = Vec::new();
        let mut first = 0;
        for path in paths {
            let images = (table.image_column.as_str(), "image_column");
            let captions = (table.caption_column.as_str(), "caption_column");
            let table = Table::open(&path, first, images, captions)
                .and_then(|(table, column)| {
                    if is_caption_type(&column) {
                        return Ok(table);
                    }
                    let (name, key) = captions;
                    Err(format!(
                        "the column `{name}` holds {column}, neither texts nor lists of texts; set \
                         {key}"
                    ))
                })
                .map_err(|message| SourceError { path, message })?;
            first += table.rows;
            tables.push(table);
        }
        if first == 0 {
            return Err(SourceError {
                path: PathBuf::from("files"),
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

    /// The sample in a row.
    /// - batch: rows of the two columns; at: which of them.
    /// - index: of the row among those of all files.
    pub(super) fn sample(
        &self,
        batch: &RecordBatch,
        at: usize,
        index: usize,
        epoch: u64,
    ) -> Result<Sample, SampleError> {
        let column = |name: &str| {
            let column = batch.column_by_name(name).map(|column| column.slice(at, 1));
            let gone = || {
                SampleError::new(
                    SkipCause::Unreadable,
                    format!("the column `{name}` is gone"),
                )
            };
            column.ok_or_else(gone)
        };
        let picture = image_bytes(&column(&self.image_column)?, &self.root)?;
        let caption = column(&self.caption_column)?;
        let missing = || SampleError::new(SkipCause::MissingCaption, "the caption is null");
        let caption = if let Some(list) = list_of(&caption) {
            let texts = (0..list.len()).filter_map(|at| text_of(&list, at));
            self.captions.one_of(texts.collect(), index as u64, epoch)?
        } else {
            caption_text(text_of(&caption, 0).ok_or_else(missing)?.into_bytes())?
        };
        Ok(Sample {
            label: None,
            picture: ImageData::Encoded(picture),
            caption,
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
    /// A file with a column of images, and the type of another column.
    /// - images, others: the columns' names, and the keys that choose them.
    pub fn open(
        path: &Path,
        first: usize,
        images: (&str, &str),
        others: (&str, &str),
    ) -> Result<(Self, DataType), String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        // Arrow's own note of the types would bring dictionaries and views back.
        let options = ArrowReaderOptions::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_skip_arrow_metadata(true);
        let metadata =
            ArrowReaderMetadata::load(&file, options).map_err(|error| error.to_string())?;
        let fields = metadata.schema().fields();
        let find = |(wanted, key): (&str, &str)| {
            let found = fields.iter().position(|field| field.name() == wanted);
            found.ok_or_else(|| {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                let names = names.join("`, `");
                format!("no column `{wanted}` among `{names}`; set {key}")
            })
        };
        let columns = [find(images)?, find(others)?];
        let [image_type, other_type] = columns.map(|column| fields[column].data_type().clone());
        if !is_image_type(&image_type) {
            let (name, key) = images;
            return Err(format!(
                "the column `{name}` holds {image_type}, neither image files nor paths of them; set \
                 {key}"
            ));
        }
        let projection = ProjectionMask::roots(metadata.parquet_schema(), columns);
        let rows = metadata.metadata().file_metadata().num_rows();
        let table = Self {
            path: path.to_path_buf(),
            projection,
            first,
            rows: usize::try_from(rows).map_err(|error| error.to_string())?,
            metadata,
        };
        Ok((table, other_type))
    }

    /// What the file's writer noted under a key.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self
            .metadata
            .metadata()
            .file_metadata()
            .key_value_metadata()?;
        let note = notes.iter().find(|note| note.key == key)?;
        note.value.as_deref()
    }

    /// All rows of one column.
    pub fn column(&self, name: &str) -> Result<Vec<ArrayRef>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let file = File::open(&self.path).map_err(|error| failed(&error))?;
        let columns = ProjectionMask::columns(self.metadata.parquet_schema(), [name]);
        let batches =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(columns)
                .build()
                .map_err(|error| failed(&error))?;
        let column = |batch: Result<RecordBatch, _>| match batch {
            Ok(batch) => Ok(batch.column(0).clone()),
            Err(error) => Err(failed(&error)),
        };
        batches.map(column).collect()
    }

    pub fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    pub fn rows_of(&self, group: usize) -> usize {
        let rows = self.metadata.metadata().row_group(group).num_rows();
        usize::try_from(rows).unwrap_or(0)
    }

    /// The row group of a row, and the row's number in it.
    pub fn place(&self, index: usize) -> (usize, usize) {
        let mut row = index - self.first;
        let mut group = 0;
        while row >= self.rows_of(group) {
            row -= self.rows_of(group);
            group += 1;
        }
        (group, row)
    }

    /// Whether reading rows at random would mostly decode others.
    fn has_large_groups(&self) -> bool {
        self.metadata.metadata().row_groups().iter().any(|group| {
            let columns = group.columns().iter().enumerate();
            let read = columns.filter(|(at, _)| self.projection.leaf_included(*at));
            read.map(|(_, column)| column.uncompressed_size())
                .sum::<i64>()
                > MAX_RANDOM_GROUP
        })
    }

    /// Rows of a group from one on.
    pub fn read(
        &self,
        group: usize,
        skip: usize,
        rows: usize,
    ) -> Result<ParquetRecordBatchReader, String> {
        let selection =
            RowSelection::from(vec![RowSelector::skip(skip), RowSelector::select(rows)]);
        // A file of its own: clones of one share their position.
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(self.projection.clone())
            .with_row_groups(vec![group])
            .with_row_selection(selection)
            .with_batch_size(rows.min(ROWS))
            .build()
            .map_err(|error| error.to_string())
    }

    /// The row's values of the two columns, by name.
    pub fn row(&self, index: usize) -> Result<RecordBatch, SampleError> {
        let unreadable =
            |error: &dyn std::fmt::Display| SampleError::new(SkipCause::Unreadable, error);
        let (group, row) = self.place(index);
        let mut rows = self
            .read(group, row, 1)
            .map_err(|error| unreadable(&error))?;
        let batch = rows.next();
        let batch = batch.ok_or_else(|| unreadable(&"the row group has no such row"))?;
        batch.map_err(|error| unreadable(&error))
    }
}

impl MapDataset for ParquetTables {
    fn len(&self) -> usize {
        self.tables.last().map_or(0, |last| last.first + last.rows)
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let row = self.find(index).row(index)?;
        self.sample(&row, 0, index, epoch)
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        let table = self.find(index);
        let row = index - table.first;
        (table.path.display().to_string(), format!("row {row}"))
    }
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

    fn table(name: &str, image: &str, caption: &str) -> ParquetConfig {
        ParquetConfig {
            files: Patterns::One(fixture(name)),
            image_column: image.into(),
            caption_column: caption.into(),
            root: None,
            stream: Some(false),
            shuffle_buffer: 8,
        }
    }

    fn open(name: &str, caption: &str) -> ParquetTables {
        let table = table(name, "image", caption);
        assert_eq!(table.problems(), []);
        ParquetTables::read_footers(&table, 0).unwrap()
    }

    fn bytes(sample: Sample) -> Vec<u8> {
        match sample.picture {
            ImageData::Encoded(bytes) => bytes,
            ImageData::Pixels(_) => unreachable!("tables hold files"),
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
    fn columns_that_cannot_be_read_are_refused_with_their_names() {
        let error = |image, caption| {
            let table = table("bytes", image, caption);
            ParquetTables::open(&table, 0).err().unwrap().to_string()
        };
        let missing = error("jpg", "caption");
        assert!(
            missing.contains("no column `jpg` among `image`, `caption`"),
            "{missing}"
        );
        let wrong = error("image", "image");
        assert!(wrong.contains("`image` holds Binary"), "{wrong}");
    }

    #[test]
    fn a_stream_has_every_row_and_goes_on_from_any() {
        let table = ParquetConfig {
            stream: Some(true),
            ..table("bytes", "image", "caption")
        };
        let PairDataset::Stream(shards) = ParquetTables::open(&table, 0).unwrap() else {
            unreachable!("it was asked for a stream");
        };
        assert_eq!((shards.len(), shards.samples()), (3, Some(50)));
        let read = |shard, from| {
            let mut keys = Vec::new();
            shards.read(shard, from, 0, &mut |sample| {
                assert_eq!(sample.sample.is_err(), sample.key == "row 13");
                keys.push((sample.key, sample.behind));
                true
            });
            keys
        };
        let all: Vec<_> = (0..3).flat_map(|shard| read(shard, 0)).collect();
        let rows: Vec<String> = (0..50).map(|row| format!("row {row}")).collect();
        assert_eq!(
            all.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            rows.iter().collect::<Vec<_>>()
        );
        assert_eq!(read(1, 17), all[37..40]);
        assert!(read(2, 10).is_empty());
    }
}
