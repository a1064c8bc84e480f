//! Parquet files with the images in them, or with their paths.

use std::path::{Path, PathBuf};

use super::options::{CompositionalKind, CompositionalOptions};
use crate::formats::DataError;
use crate::labelled::dataset::Images;

/// The rows of all files.
pub(super) struct ParquetTable {
    pub kind: CompositionalKind,
    /// The images of each column, one per row.
    pub images: Vec<Box<dyn Images>>,
    pub captions: [Vec<String>; 2],
    pub categories: Option<Vec<String>>,
}

impl ParquetTable {
    /// - files: at least one, of which `first` is the first.
    #[cfg(not(feature = "parquet"))]
    pub fn read(
        _files: &[PathBuf],
        _first: &Path,
        _options: &CompositionalOptions,
    ) -> Result<Self, DataError> {
        Err(crate::formats::patterns::without_parquet())
    }

    /// - files: at least one, of which `first` is the first.
    #[cfg(feature = "parquet")]
    pub fn read(
        files: &[PathBuf],
        first: &Path,
        options: &CompositionalOptions,
    ) -> Result<Self, DataError> {
        use super::columns::Columns;
        use crate::formats::parquet::file::{ParquetColumns, ParquetFiles};
        use crate::formats::parquet::kinds::columns_of;

        const IMAGES: &str = "--image-columns";
        let names = columns_of(first)?.into_iter().map(|column| column.name);
        let names: Vec<String> = names.collect();
        let columns = Columns::choose(&names, options);
        let columns = columns.map_err(|message| DataError::invalid(first, message))?;
        let open = |image: &str, value: (&str, &str)| {
            let columns = ParquetColumns {
                image: (image, IMAGES),
                value,
                root: options.root.as_deref(),
            };
            ParquetFiles::open(files.to_vec(), columns)
        };
        let texts = |column: &str, key: &'static str| {
            let files = open(&columns.images[0], (column, key))?;
            one_each(files.column()?, column, key)
        };
        let images = columns.images.iter().map(|column| {
            let files = open(column.as_str(), (column.as_str(), IMAGES))?;
            Ok(Box::new(files) as Box<dyn Images>)
        });
        let [caption, other] = &columns.captions;
        let category = columns.category.as_ref();
        Ok(Self {
            kind: columns.kind,
            images: images.collect::<Result<_, DataError>>()?,
            captions: [
                texts(caption, "--caption-columns")?,
                texts(other, "--caption-columns")?,
            ],
            categories: category
                .map(|category| texts(category, "--category-column"))
                .transpose()?,
        })
    }
}

/// A column of one text per row.
#[cfg(feature = "parquet")]
fn one_each(
    column: crate::formats::parquet::columns::Column,
    name: &str,
    key: &'static str,
) -> Result<Vec<String>, DataError> {
    use crate::formats::parquet::columns::Column;

    let rows = match column {
        Column::Numbers(numbers) => {
            return Ok(numbers.iter().map(ToString::to_string).collect());
        }
        Column::Texts(rows) => rows,
    };
    let texts = rows.into_iter().enumerate().map(|(row, mut texts)| {
        match (texts.pop(), texts.is_empty()) {
            (Some(text), true) if !text.trim().is_empty() => Ok(text),
            _ => {
                let message = format!("row {row} of all files: expected one text in `{name}`");
                Err(DataError::key(key, message))
            }
        }
    });
    texts.collect()
}
