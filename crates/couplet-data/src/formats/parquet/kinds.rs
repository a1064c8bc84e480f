//! What the columns of a file may hold, by their types.

use std::path::Path;

use arrow_schema::DataType;

use super::file::metadata_of;
use super::values::{is_image_type, is_text_column};
use crate::formats::error::DataError;
use crate::formats::files::open_regular;

/// A column at the top of a file's schema.
pub(crate) struct ColumnKind {
    pub name: String,
    /// Whether it holds bytes, or a structure with bytes, as of images.
    pub has_bytes: bool,
    /// Whether it may hold texts or lists of texts.
    pub is_text: bool,
}

/// The columns of a file.
///
/// # Errors
/// If it cannot be read as Parquet.
pub(crate) fn columns_of(path: &Path) -> Result<Vec<ColumnKind>, DataError> {
    let file = open_regular(path).map_err(DataError::io(path))?;
    let metadata = metadata_of(path, &file)?;
    let fields = metadata.schema().fields().iter();
    let columns = fields.map(|field| ColumnKind {
        name: field.name().clone(),
        has_bytes: has_bytes(field.data_type()),
        is_text: is_text_column(field.data_type()),
    });
    Ok(columns.collect())
}

fn has_bytes(column: &DataType) -> bool {
    match column {
        DataType::Struct(parts) => {
            is_image_type(column) && parts.iter().any(|part| has_bytes(part.data_type()))
        }
        column => matches!(
            column,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView
        ),
    }
}
