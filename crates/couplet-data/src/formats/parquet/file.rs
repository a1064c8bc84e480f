//! Parquet files with a column of images and one other column. A row can be read on its own, which
//! decompresses the page that holds it; a row group can be read from front to back.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use super::values::{image_bytes, is_image_type, texts_of};
use crate::formats::error::DataError;
use crate::formats::files::open_regular;
use crate::formats::image_files::ImagePaths;
use crate::panics::catch_unwinding;
use crate::sample::{SampleError, SkipCause};

/// Bytes of images in a row group above which its rows are not read at random: decoding such a
/// large page takes about as long as decoding the image.
const MAX_RANDOM_GROUP: i64 = 2 << 20;
/// Rows that are decoded at once when a group is read from front to back.
const ROWS: usize = 16;

/// Bytes of the other column that are hashed in each row group.
const HASHED_OF_A_GROUP: u64 = 64 << 10;

/// The two columns to read, each with the config key that names it, and the folder that relative
/// image paths start from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParquetColumns<'a> {
    pub image: (&'a str, &'a str),
    /// The same as `image`, with its key, if there is no other.
    pub value: (&'a str, &'a str),
    pub root: Option<&'a Path>,
}

/// The rows of one file.
pub(crate) struct ParquetFile {
    pub path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// The two columns that are read.
    projection: ProjectionMask,
    pub image_column: String,
    value_column: String,
    image_place: usize,
    value_place: usize,
    /// The type of the other column.
    pub value_type: DataType,
    paths: ImagePaths,
    /// The index of the file's first row among the rows of all files.
    pub first: usize,
    pub rows: usize,
}

/// The rows of several files, concatenated.
pub(crate) struct ParquetFiles(pub Vec<ParquetFile>);

impl ParquetFiles {
    /// Reads the files' footers.
    ///
    /// # Errors
    /// If a file cannot be read or lacks a column, or there are no rows.
    pub fn open(paths: Vec<PathBuf>, columns: ParquetColumns) -> Result<Self, DataError> {
        let mut files: Vec<ParquetFile> = Vec::new();
        for path in paths {
            let first = files.last().map_or(0, |last| last.first + last.rows);
            files.push(ParquetFile::open(&path, first, columns)?);
        }
        let files = Self(files);
        if files.len() == 0 {
            return Err(DataError::key("files", "the files have no rows"));
        }
        Ok(files)
    }

    /// The number of rows in all files.
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |last| last.first + last.rows)
    }

    /// The file that holds a row.
    pub fn find(&self, index: usize) -> &ParquetFile {
        let at = (self.0).partition_point(|file| file.first + file.rows <= index);
        &self.0[at]
    }

    /// The file that holds a row, and the row's key in it.
    pub fn locate(&self, index: usize) -> (String, String) {
        let file = self.find(index);
        let row = index - file.first;
        (file.path.display().to_string(), format!("row {row}"))
    }

    /// Whether reading rows at random would decode mostly other rows.
    pub fn has_large_groups(&self) -> bool {
        self.0.iter().any(ParquetFile::has_large_groups)
    }
}

pub(super) fn metadata_of(path: &Path, file: &File) -> Result<ArrowReaderMetadata, DataError> {
    // Arrow's own type metadata would bring back dictionary and view types.
    let options = ArrowReaderOptions::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_skip_arrow_metadata(true);
    let metadata = guarded(|| ArrowReaderMetadata::load(file, options));
    metadata.map_err(DataError::format(path))
}

impl ParquetFile {
    fn open(path: &Path, first: usize, columns: ParquetColumns) -> Result<Self, DataError> {
        let invalid = |message: String| DataError::invalid(path, message);
        let file = open_regular(path).map_err(DataError::io(path))?;
        let metadata = metadata_of(path, &file)?;
        let fields = metadata.schema().fields();
        let find = |(wanted, key): (&str, &str)| {
            let found = fields.iter().position(|field| field.name() == wanted);
            found.ok_or_else(|| {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                let names = names.join("`, `");
                invalid(format!("no column `{wanted}` among `{names}`; set {key}"))
            })
        };
        let places = [find(columns.image)?, find(columns.value)?];
        // Images alone are read as both.
        if places[0] == places[1] && columns.image != columns.value {
            let (key, other) = (columns.image.1, columns.value.1);
            let name = columns.image.0;
            return Err(invalid(format!(
                "both {key} and {other} are `{name}`; set one of them to another column"
            )));
        }
        let [image_type, value_type] = places.map(|place| fields[place].data_type().clone());
        if !is_image_type(&image_type) {
            let (name, key) = columns.image;
            return Err(invalid(format!(
                "the column `{name}` holds {image_type}, neither image bytes nor paths; set {key}"
            )));
        }
        let projection = ProjectionMask::roots(metadata.parquet_schema(), places);
        let rows = metadata.metadata().file_metadata().num_rows();
        Ok(Self {
            path: path.to_path_buf(),
            projection,
            image_column: columns.image.0.to_string(),
            value_column: columns.value.0.to_string(),
            image_place: places[0],
            value_place: places[1],
            value_type,
            paths: ImagePaths::new(columns.root, path),
            first,
            rows: usize::try_from(rows).map_err(|error| invalid(error.to_string()))?,
            metadata,
        })
    }

    /// The value that the file's writer stored under a metadata key.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self
            .metadata
            .metadata()
            .file_metadata()
            .key_value_metadata()?;
        let note = notes.iter().find(|note| note.key == key)?;
        note.value.as_deref()
    }

    /// Reads the whole other column, in batches.
    pub fn values(&self) -> Result<Vec<ArrayRef>, DataError> {
        self.column(self.value_place)
    }

    /// The files that the column of images names, in order; none if it holds the images themselves, or cannot be read.
    pub fn image_files(&self) -> Vec<PathBuf> {
        let holds_texts = self.metadata.schema().field(self.image_place).data_type();
        if !matches!(
            holds_texts,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        ) {
            return Vec::new();
        }
        let batches = self.column(self.image_place).unwrap_or_default();
        let names = batches.iter().flat_map(|batch| {
            let names = (0..batch.len()).filter_map(|at| texts_of(batch, at).ok());
            names.flatten().collect::<Vec<_>>()
        });
        names.map(|name| self.paths.resolve(&name)).collect()
    }

    /// The folder that relative paths of images start from.
    pub fn image_folder(&self) -> &Path {
        &self.paths.folder
    }

    fn column(&self, place: usize) -> Result<Vec<ArrayRef>, DataError> {
        let file = open_regular(&self.path).map_err(DataError::io(&self.path))?;
        let columns = ProjectionMask::roots(self.metadata.parquet_schema(), [place]);
        let read = || {
            let batches =
                ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                    .with_projection(columns)
                    .build()?;
            let column = |batch: Result<RecordBatch, ArrowError>| Ok(batch?.column(0).clone());
            batches.map(column).collect()
        };
        guarded(read).map_err(DataError::format(&self.path))
    }

    /// Hashes the sizes of all pages, and the beginning of the other column in each row group.
    pub fn hash_value_pages(&self, hasher: &mut impl Hasher) -> io::Result<()> {
        let mut file = open_regular(&self.path)?;
        for group in self.metadata.metadata().row_groups() {
            hasher.write(&group.num_rows().to_le_bytes());
            for column in group.columns() {
                let (start, len) = column.byte_range();
                hasher.write(&len.to_le_bytes());
                let name = column.column_path().parts().first();
                if name.is_some_and(|name| *name == self.value_column) {
                    file.seek(SeekFrom::Start(start))?;
                    let mut bytes = Vec::new();
                    (&mut file)
                        .take(len.min(HASHED_OF_A_GROUP))
                        .read_to_end(&mut bytes)?;
                    hasher.write(&bytes);
                }
            }
        }
        Ok(())
    }

    /// The bytes of an image.
    /// - batch: rows of the two columns; at: the row's index in it.
    pub fn image(&self, batch: &RecordBatch, at: usize) -> Result<Vec<u8>, SampleError> {
        image_bytes(&cell(batch, &self.image_column, at)?, &self.paths)
    }

    /// The other cell of a row, as an array of length 1.
    /// - batch: rows of the two columns; at: the row's index in it.
    pub fn value(&self, batch: &RecordBatch, at: usize) -> Result<ArrayRef, SampleError> {
        cell(batch, &self.value_column, at)
    }

    pub fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    pub fn rows_of(&self, group: usize) -> usize {
        let rows = self.metadata.metadata().row_group(group).num_rows();
        usize::try_from(rows).unwrap_or(0)
    }

    /// The row group that holds a row, and the row's index in it.
    pub fn place(&self, index: usize) -> (usize, usize) {
        let mut row = index - self.first;
        let mut group = 0;
        while row >= self.rows_of(group) {
            row -= self.rows_of(group);
            group += 1;
        }
        (group, row)
    }

    /// Whether reading rows at random would decode mostly other rows.
    fn has_large_groups(&self) -> bool {
        self.metadata.metadata().row_groups().iter().any(|group| {
            let columns = group.columns().iter().enumerate();
            let read = columns.filter(|(at, _)| self.projection.leaf_included(*at));
            read.map(|(_, column)| column.uncompressed_size())
                .sum::<i64>()
                > MAX_RANDOM_GROUP
        })
    }

    /// Reads `rows` rows of a group, after skipping `skip`.
    pub fn read(&self, group: usize, skip: usize, rows: usize) -> Result<Batches, String> {
        let selection =
            RowSelection::from(vec![RowSelector::skip(skip), RowSelector::select(rows)]);
        // Opened anew: clones of a file handle share their position.
        let file = open_regular(&self.path).map_err(|error| error.to_string())?;
        let build = || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(self.projection.clone())
                .with_row_groups(vec![group])
                .with_row_selection(selection)
                .with_batch_size(rows.min(ROWS))
                .build()
        };
        let reader = guarded(build).map_err(|error| error.to_string())?;
        Ok(Batches(Some(reader)))
    }

    /// Reads the two columns of one row.
    pub fn row(&self, index: usize) -> Result<RecordBatch, SampleError> {
        let unreadable = |error: String| SampleError::new(SkipCause::Unreadable, error);
        let (group, row) = self.place(index);
        let mut rows = self.read(group, row, 1).map_err(unreadable)?;
        let batch = rows.next();
        let batch = batch.ok_or_else(|| unreadable("the row group has no such row".into()))?;
        batch.map_err(unreadable)
    }
}

/// Batches of rows.
pub(crate) struct Batches(Option<ParquetRecordBatchReader>);

impl Iterator for Batches {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        // Dropped if it panics.
        let mut reader = self.0.take()?;
        let batch = guarded(|| {
            let batch = reader.next().transpose()?;
            Ok(batch.map(|batch| (batch, reader)))
        });
        match batch {
            Ok(Some((batch, reader))) => {
                self.0 = Some(reader);
                Some(Ok(batch))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

/// Runs the library that reads Parquet, which panics on some damaged files.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let damaged = |message| {
        Err(ParquetError::General(format!(
            "the file is damaged: {message}"
        )))
    };
    catch_unwinding(read).unwrap_or_else(damaged)
}

fn cell(batch: &RecordBatch, column: &str, at: usize) -> Result<ArrayRef, SampleError> {
    let found = batch.column_by_name(column);
    let cell = found.map(|values| values.slice(at, 1));
    cell.ok_or_else(|| {
        let message = format!("the row group has no column `{column}`");
        SampleError::new(SkipCause::Unreadable, message)
    })
}
