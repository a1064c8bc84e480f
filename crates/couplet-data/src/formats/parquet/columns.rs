//! Whole columns of labels or captions.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::file::ParquetFiles;
use super::values::{is_text_column, list_of, text_of};
use crate::formats::error::DataError;

/// The values of the column next to the images.
pub(crate) enum Column {
    Numbers(Vec<usize>),
    /// One or more texts per row.
    Texts(Vec<Vec<String>>),
}

impl ParquetFiles {
    /// Reads the whole column next to the images, over all files.
    ///
    /// # Errors
    /// If it cannot be read, or its type is neither a number nor text.
    pub fn column(&self) -> Result<Column, DataError> {
        let (mut numbers, mut texts) = (Vec::new(), Vec::new());
        for file in &self.0 {
            let is_text = is_text_column(&file.value_type);
            for batch in file.values()? {
                if is_text {
                    texts.extend((0..batch.len()).map(|row| texts_of(&batch, row)));
                } else {
                    let own = numbers_of(&batch, &file.value_type);
                    numbers.extend(own.map_err(|message| DataError::invalid(&file.path, message))?);
                }
            }
        }
        match (numbers.is_empty(), texts.is_empty()) {
            (false, true) => Ok(Column::Numbers(numbers)),
            (true, false) => Ok(Column::Texts(texts)),
            _ => Err(DataError::key(
                "files",
                "the labels are text in some files and numbers in others; use one type",
            )),
        }
    }

    /// The names of a column's classes, as Hugging Face stores them in a file's metadata.
    pub fn class_names(&self, column: &str) -> Option<Vec<String>> {
        let noted = |note: &str| names_of(note, column);
        (self.0.iter()).find_map(|file| file.note("huggingface").and_then(noted))
    }
}

/// The texts in a row: one, or those of a list, without nulls.
pub(crate) fn texts_of(column: &ArrayRef, row: usize) -> Vec<String> {
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
                "the labels are of type {kind}; use integers or text"
            ));
        }
    };
    numbers.ok_or_else(|| "a label is null or below 0".to_string())
}

/// The names of a column's classes in the metadata that Hugging Face writes.
fn names_of(note: &str, column: &str) -> Option<Vec<String>> {
    let note: serde_json::Value = serde_json::from_str(note).ok()?;
    let names = note
        .pointer(&format!("/info/features/{column}/names"))?
        .as_array()?;
    let names = names.iter().map(|name| name.as_str().map(str::to_string));
    names.collect()
}
