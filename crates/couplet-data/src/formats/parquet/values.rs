//! Supported column types, and the values in a row.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use crate::formats::image_files::{ImagePaths, read_image};
use crate::formats::text::decode_text;
use crate::sample::{SampleError, SkipCause};

/// Whether a column of this type may hold image bytes or paths.
pub(crate) fn is_image_type(column: &DataType) -> bool {
    match column {
        DataType::Struct(parts) => (parts.iter()).any(|part| is_image_type(part.data_type())),
        column => is_text_type(column),
    }
}

/// Whether a column of this type may hold texts or lists of texts.
pub(crate) fn is_text_column(column: &DataType) -> bool {
    match column {
        DataType::List(item) | DataType::LargeList(item) => is_text_column(item.data_type()),
        column => is_text_type(column),
    }
}

/// Texts may be stored as bytes without a type, and bytes as text.
fn is_text_type(column: &DataType) -> bool {
    matches!(
        column,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

/// The texts in a row: one, or those of a list, without nulls.
///
/// # Errors
/// If one is not UTF-8.
pub(crate) fn texts_of(column: &dyn Array, at: usize) -> Result<Vec<String>, String> {
    if column.is_null(at) {
        return Ok(Vec::new());
    }
    let list = column.as_list_opt::<i32>().map(|list| list.value(at));
    let list = list.or_else(|| column.as_list_opt::<i64>().map(|list| list.value(at)));
    if let Some(list) = list {
        let texts = (0..list.len()).map(|at| texts_of(&list, at));
        return Ok(texts.collect::<Result<Vec<_>, _>>()?.concat());
    }
    let text = bytes_of(column, at).map(|bytes| decode_text(bytes.to_vec()));
    Ok(text.transpose()?.into_iter().collect())
}

/// The bytes or the text in a row; `None` if it is null or the column holds neither.
fn bytes_of(column: &dyn Array, at: usize) -> Option<&[u8]> {
    if column.is_null(at) {
        return None;
    }
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        return Some(bytes.value(at));
    }
    if let Some(bytes) = column.as_binary_opt::<i64>() {
        return Some(bytes.value(at));
    }
    if let Some(bytes) = column.as_binary_view_opt() {
        return Some(bytes.value(at));
    }
    if let Some(bytes) = column.as_fixed_size_binary_opt() {
        return Some(bytes.value(at));
    }
    text_of(column, at).map(str::as_bytes)
}

fn text_of(column: &dyn Array, at: usize) -> Option<&str> {
    if column.is_null(at) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(texts.value(at));
    }
    if let Some(texts) = column.as_string_opt::<i64>() {
        return Some(texts.value(at));
    }
    (column.as_string_view_opt()).map(|texts| texts.value(at))
}

/// The bytes of the image in the first row.
/// - paths: how to resolve paths in the table.
pub(super) fn image_bytes(column: &ArrayRef, paths: &ImagePaths) -> Result<Vec<u8>, SampleError> {
    let missing = |what: &str| SampleError::new(SkipCause::MissingImage, what);
    if column.is_null(0) {
        return Err(missing("the image is null"));
    }
    // Hugging Face's images hold bytes, or else a path.
    let parts = column.as_struct_opt();
    let part = |name: &str| parts.and_then(|parts| parts.column_by_name(name));
    let (bytes, path) = match (part("bytes"), part("path")) {
        (None, None) => (Some(column), Some(column)),
        parts => parts,
    };
    let is_text = |bytes: &&ArrayRef| text_of(bytes, 0).is_some();
    let bytes = bytes.filter(|bytes| !is_text(bytes));
    if let Some(bytes) = bytes.and_then(|bytes| bytes_of(bytes, 0)) {
        return Ok(bytes.to_vec());
    }
    let path = path.and_then(|path| text_of(path, 0));
    let path = path.ok_or_else(|| missing("the image is neither bytes nor a path"))?;
    read_image(&paths.resolve(path))
}
