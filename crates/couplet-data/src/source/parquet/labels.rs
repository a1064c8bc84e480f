//! Tables' images with a label or captions for each, for evaluation.

use std::ops::Range;
use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::reader::Table;
use super::values::{image_bytes, is_caption_type, list_of, text_of};
use crate::sample::{ImageData, SampleError, SkipCause};

/// A column beside the images.
pub(crate) enum Labels {
    Numbers(Vec<usize>),
    /// One text a row, or several.
    Texts(Vec<Vec<String>>),
}

/// The images of several files.
pub(crate) struct ParquetImages {
    tables: Vec<Table>,
    image_column: String,
    root: PathBuf,
    /// As Hugging Face notes them in a file.
    pub class_names: Option<Vec<String>>,
}

impl ParquetImages {
    /// - column: of labels or captions.
    /// - root: what relative image paths start from.
    pub fn open(
        paths: Vec<PathBuf>,
        image_column: &str,
        column: &str,
        root: PathBuf,
    ) -> Result<(Self, Labels), String> {
        let mut images = Self {
            tables: Vec::new(),
            image_column: image_column.to_string(),
            root,
            class_names: None,
        };
        let (mut numbers, mut texts, mut first) = (Vec::new(), Vec::new(), 0);
        for path in paths {
            let with_path = |message| format!("{}: {message}", path.display());
            let keys = ("label_column or caption_column", "image_column");
            let opened = Table::open(&path, first, (image_column, keys.1), (column, keys.0));
            let (table, kind) = opened.map_err(with_path)?;
            let is_text = is_caption_type(&kind);
            for batch in table.column(column)? {
                if is_text {
                    texts.extend((0..batch.len()).map(|row| texts_of(&batch, row)));
                } else {
                    numbers.extend(numbers_of(&batch, &kind).map_err(with_path)?);
                }
            }
            first += table.rows;
            let noted = table
                .note("huggingface")
                .and_then(|note| names_of(note, column));
            images.class_names = images.class_names.or(noted);
            images.tables.push(table);
        }
        match (numbers.len() == first, texts.len() == first) {
            (true, false) => Ok((images, Labels::Numbers(numbers))),
            (false, true) => Ok((images, Labels::Texts(texts))),
            (true, true) => Err("the tables have no rows".into()),
            (false, false) => Err(format!(
                "`{column}` holds texts in some files, numbers in others"
            )),
        }
    }

    /// The first file, for errors.
    pub fn path(&self) -> PathBuf {
        self.tables
            .first()
            .map_or(PathBuf::new(), |table| table.path.clone())
    }

    fn find(&self, index: usize) -> &Table {
        let at = (self.tables).partition_point(|table| table.first + table.rows <= index);
        &self.tables[at]
    }

    /// One row's image.
    pub fn picture(&self, index: usize) -> Result<ImageData, SampleError> {
        let row = self.find(index).row(index)?;
        let gone = || SampleError::new(SkipCause::Unreadable, "the images' column is gone");
        let column = row.column_by_name(&self.image_column).ok_or_else(gone)?;
        image_bytes(column, &self.root).map(ImageData::Encoded)
    }

    /// The images of neighbouring rows, whose pages are decoded once.
    pub fn pictures(&self, range: Range<usize>) -> Vec<Result<ImageData, SampleError>> {
        let mut pictures = Vec::with_capacity(range.len());
        let mut next = range.start;
        while next < range.end {
            let table = self.find(next);
            let (group, skip) = table.place(next);
            let rows = (range.end - next).min(table.rows_of(group) - skip);
            let before = pictures.len();
            let batches = table.read(group, skip, rows).into_iter().flatten();
            for batch in batches.map_while(Result::ok) {
                let Some(column) = batch.column_by_name(&self.image_column) else {
                    break;
                };
                let image = |row| image_bytes(&column.slice(row, 1), &self.root);
                let images = (0..batch.num_rows()).map(|row| image(row).map(ImageData::Encoded));
                pictures.extend(images);
            }
            // What the batch could not give is asked for row by row, which says why.
            let missing = next + pictures.len() - before..next + rows;
            pictures.extend(missing.map(|index| self.picture(index)));
            next += rows;
        }
        pictures
    }

    /// A row's file and its number there.
    pub fn place(&self, index: usize) -> (String, String) {
        let table = self.find(index);
        (
            table.path.display().to_string(),
            format!("row {}", index - table.first),
        )
    }
}

fn texts_of(column: &ArrayRef, row: usize) -> Vec<String> {
    let one = column.slice(row, 1);
    match list_of(&one) {
        Some(list) => (0..list.len())
            .filter_map(|at| text_of(&list, at))
            .collect(),
        None if matches!(one.data_type(), DataType::List(_) | DataType::LargeList(_)) => Vec::new(),
        None => text_of(&one, 0).into_iter().collect(),
    }
}

fn numbers_of(column: &ArrayRef, kind: &DataType) -> Result<Vec<usize>, String> {
    macro_rules! numbers {
        ($kind:ty) => {{
            let values = column.as_primitive::<$kind>().iter();
            let numbers = values.map(|value| value.and_then(|value| usize::try_from(value).ok()));
            numbers.collect::<Option<Vec<usize>>>()
        }};
    }
    let numbers = match kind {
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        _ => {
            return Err(format!(
                "labels of the type {kind}; numbers or texts are read"
            ));
        }
    };
    numbers.ok_or_else(|| "a label is null or below 0".to_string())
}

/// The names of a column's classes in Hugging Face's note of its features.
fn names_of(note: &str, column: &str) -> Option<Vec<String>> {
    let note: serde_json::Value = serde_json::from_str(note).ok()?;
    let names = note
        .pointer(&format!("/info/features/{column}/names"))?
        .as_array()?;
    let names = names.iter().map(|name| name.as_str().map(str::to_string));
    names.collect()
}
