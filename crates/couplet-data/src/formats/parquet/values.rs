//! Supported column types, and the values in a row.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use crate::formats::image_files::{ImagePaths, read_image};
use crate::sample::{SampleError, SkipCause};

/// Whether a column of this type may hold image bytes or paths.
pub(crate) fn is_image_type(column: &DataType) -> bool {
    match column {
        DataType::Struct(parts) => (parts.iter()).any(|part| is_image_type(part.data_type())),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        column => is_text_type(column),
    }
}

/// Whether a column of this type may hold texts or lists of texts.
pub(crate) fn is_text_column(column: &DataType) -> bool {
    match column {
        DataType::List(item) | DataType::LargeList(item) => is_text_type(item.data_type()),
        column => is_text_type(column),
    }
}

fn is_text_type(column: &DataType) -> bool {
    matches!(
        column,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// The list in the first row; `None` if it is null or the column holds no lists.
pub(crate) fn list_of(column: &ArrayRef) -> Option<ArrayRef> {
    if let Some(list) = column.as_list_opt::<i32>() {
        return list.is_valid(0).then(|| list.value(0));
    }
    let list = column.as_list_opt::<i64>()?;
    list.is_valid(0).then(|| list.value(0))
}

/// The text in a row; `None` if it is null or the column holds no text.
pub(crate) fn text_of(column: &ArrayRef, at: usize) -> Option<String> {
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
    let bytes = part("bytes").map_or_else(|| bytes_of(column), bytes_of);
    if let Some(bytes) = bytes {
        return Ok(bytes);
    }
    let path = part("path").map_or_else(|| text_of(column, 0), |path| text_of(path, 0));
    let path = path.ok_or_else(|| missing("the image is neither bytes nor a path"))?;
    read_image(&paths.resolve(&path))
}
