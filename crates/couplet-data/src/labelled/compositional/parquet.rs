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
    /// By default the names of the files, if there are several.
    pub categories: Vec<Option<String>>,
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
        const CATEGORY: &str = "--category-column";
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
        let maybe = |column: &str, key: &'static str| {
            let files = open(&columns.images[0], (column, key))?;
            Ok(at_most_one_each(files.column()?))
        };
        let texts = |column: &str, key: &'static str| {
            let rows = maybe(column, key)?.into_iter().enumerate();
            let texts = rows.map(|(row, text)| {
                let message = format!("row {row} of all files: expected one text in `{column}`");
                text.ok_or_else(|| DataError::key(key, message))
            });
            texts.collect::<Result<Vec<String>, DataError>>()
        };
        let images = columns
            .images
            .iter()
            .map(|column| open(column.as_str(), (column.as_str(), IMAGES)));
        let images: Vec<ParquetFiles> = images.collect::<Result<_, DataError>>()?;
        let [caption, other] = &columns.captions;
        let mut categories = match &columns.category {
            Some(column) if options.category_column.is_some() => {
                let texts = texts(column, CATEGORY)?;
                texts.into_iter().map(Some).collect()
            }
            Some(column) => maybe(column, CATEGORY)?,
            None => vec![None; images[0].len()],
        };
        if files.len() > 1 {
            for file in &images[0].0 {
                let stem = file.path.file_stem().unwrap_or_default();
                for category in &mut categories[file.first..file.first + file.rows] {
                    category.get_or_insert_with(|| stem.to_string_lossy().into_owned());
                }
            }
        }
        let images = images
            .into_iter()
            .map(|files| Box::new(files) as Box<dyn Images>);
        Ok(Self {
            kind: columns.kind,
            images: images.collect(),
            captions: [
                texts(caption, "--caption-columns")?,
                texts(other, "--caption-columns")?,
            ],
            categories,
        })
    }
}

/// The text of each row; `None` where there is none, or more than one.
#[cfg(feature = "parquet")]
fn at_most_one_each(column: crate::formats::parquet::columns::Column) -> Vec<Option<String>> {
    use crate::formats::parquet::columns::Column;

    match column {
        Column::Numbers(numbers) => numbers
            .iter()
            .map(|number| Some(number.to_string()))
            .collect(),
        Column::Texts(rows) => {
            let texts = rows.into_iter().map(|mut texts| {
                let text = texts.pop().filter(|text| !text.trim().is_empty());
                text.filter(|_| texts.is_empty())
            });
            texts.collect()
        }
    }
}
