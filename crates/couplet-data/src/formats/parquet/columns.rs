//! Whole columns of labels or captions.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::file::ParquetFiles;
use super::values::{is_text_column, texts_of};
use crate::formats::error::DataError;
use crate::formats::text::caption_problem;

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
                    for row in 0..batch.len() {
                        let own = texts_of(&batch, row).and_then(|own| {
                            let problem = own.iter().find_map(|text| caption_problem(text));
                            problem.map_or(Ok(own), Err)
                        });
                        let row = texts.len().saturating_sub(file.first);
                        texts.push(own.map_err(|message| {
                            DataError::invalid(&file.path, format!("row {row}: {message}"))
                        })?);
                    }
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

/// The class numbers in a column of integers, whole floats or booleans.
fn numbers_of(column: &ArrayRef, kind: &DataType) -> Result<Vec<usize>, String> {
    macro_rules! integers {
        ($kind:ty) => {{
            let values = column.as_primitive::<$kind>().iter();
            let numbers = values.map(|value| value.and_then(|value| usize::try_from(value).ok()));
            numbers.collect::<Option<Vec<usize>>>()
        }};
    }
    macro_rules! floats {
        ($kind:ty) => {{
            let values = column.as_primitive::<$kind>().iter();
            let numbers = values.map(|value| value.and_then(|value| whole(value.into())));
            numbers.collect::<Option<Vec<usize>>>()
        }};
    }
    let numbers = match kind {
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => integers!(UInt64Type),
        DataType::Float32 => floats!(Float32Type),
        DataType::Float64 => floats!(Float64Type),
        DataType::Boolean => {
            let values = column.as_boolean().iter();
            values.map(|value| value.map(usize::from)).collect()
        }
        _ => {
            return Err(format!(
                "the labels are of type {kind}; use integers or text"
            ));
        }
    };
    numbers.ok_or_else(|| "a label is null, below 0 or not a whole number".to_string())
}

/// A class number that is stored as a float, as pandas does with a column that has had gaps.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small whole number"
)]
fn whole(value: f64) -> Option<usize> {
    let is_number = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
    is_number.then_some(value as usize)
}

/// The names of a column's classes in the metadata that Hugging Face writes.
fn names_of(note: &str, column: &str) -> Option<Vec<String>> {
    let note: serde_json::Value = serde_json::from_str(note).ok()?;
    let features = note.get("info")?.get("features")?;
    let names = features.get(column)?.get("names")?.as_array()?;
    let names = names.iter().map(|name| name.as_str().map(str::to_string));
    names.collect()
}
