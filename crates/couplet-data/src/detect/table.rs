//! Tables with images and captions.

use std::path::Path;

use super::found::Candidate;
use crate::error::printable;
use crate::formats::DataError;
#[cfg(feature = "parquet")]
use crate::formats::column_names::{CAPTION_NAMES, IMAGE_NAMES};
use crate::formats::table_layout::TableLayout;
#[cfg(feature = "parquet")]
use crate::formats::table_layout::{by_name, is_known};
use crate::source::{CsvConfig, SourceConfig};

/// A CSV or TSV file, with its separator and columns.
///
/// # Errors
/// If no column names images that exist, or there is no other column for captions.
pub(super) fn candidate(path: &Path) -> Result<Candidate, DataError> {
    let layout = TableLayout::of(path)?;
    let names: Vec<_> = layout.names.iter().map(|name| printable(name)).collect();
    let message = match (layout.image, layout.caption(0)) {
        (Some(image), Some(caption)) => {
            let kind = format!(
                "a table with images in `{}` and captions in `{}`",
                names[image], names[caption]
            );
            let source = SourceConfig::Csv(CsvConfig {
                image_column: layout.names[image].clone(),
                caption_column: layout.names[caption].clone(),
                separator: layout.separator,
                ..CsvConfig::new(path)
            });
            return Ok(Candidate { source, kind });
        }
        _ if names.len() < 2 => {
            "a table has a header and at least two columns, of images and of captions".to_string()
        }
        (Some(image), None) => format!(
            "no column among `{}` has captions for the images in `{}`",
            names.join("`, `"),
            names[image]
        ),
        (None, _) => format!(
            "no column among `{}` names images that exist, starting from the table's folder or the working \
             directory; if they are in another folder, write the config with root",
            names.join("`, `")
        ),
    };
    Err(DataError::invalid(path, message))
}

/// The columns of a Parquet file with images and captions.
#[cfg(feature = "parquet")]
pub(super) fn parquet_columns(path: &Path) -> Result<[String; 2], DataError> {
    let columns = crate::formats::parquet::kinds::columns_of(path)?;
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    // Images as bytes are certain, and so is their name; a text may be a path.
    let certain = by_name(&names, &IMAGE_NAMES).find(|at| columns[*at].has_bytes);
    let by_known_name = || {
        by_name(&names, &IMAGE_NAMES)
            .find(|at| is_known(&names[*at], &IMAGE_NAMES) && columns[*at].is_text)
    };
    let image = certain.or_else(by_known_name);
    let is_caption = |at: &usize| {
        columns[*at].is_text && Some(*at) != image && !is_known(&names[*at], &IMAGE_NAMES)
    };
    let captions: Vec<usize> = by_name(&names, &CAPTION_NAMES).filter(is_caption).collect();
    // Of several unknown columns, none can be told from an ID.
    let caption = captions.first().copied();
    let caption = caption.filter(|at| captions.len() == 1 || is_known(&names[*at], &CAPTION_NAMES));
    if let (Some(image), Some(caption)) = (image, caption) {
        return Ok([names[image].clone(), names[caption].clone()]);
    }
    let message = format!(
        "no column of images and one of captions among `{}`; write the config with image_column and \
         caption_column",
        names.join("`, `")
    );
    Err(DataError::invalid(path, message))
}

#[cfg(not(feature = "parquet"))]
pub(super) fn parquet_columns(_: &Path) -> Result<[String; 2], DataError> {
    Err(DataError::key(
        "files",
        crate::formats::patterns::WITHOUT_PARQUET,
    ))
}
