//! Which columns of a table have the images and the captions.

use std::path::Path;

use super::found::Candidate;
use crate::error::printable;
use crate::formats::DataError;
use crate::formats::column_names::{CAPTION_NAMES, IMAGE_NAMES};
use crate::formats::csv::first_rows;
use crate::formats::image_files::ImagePaths;
use crate::source::{CsvConfig, SourceConfig};

/// Separators that are tried; the one that a file's name suggests is first.
const SEPARATORS: [char; 4] = [',', '\t', ';', '|'];
/// Rows that are looked at.
const ROWS: usize = 20;

/// A CSV or TSV file, with its separator and columns.
///
/// # Errors
/// If no column names images that exist, or there is no other column for captions.
pub(super) fn candidate(path: &Path) -> Result<Candidate, DataError> {
    let is_tsv = (path.extension()).is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
    let own = if is_tsv { '\t' } else { ',' };
    let mut separators = vec![own];
    separators.extend(SEPARATORS.iter().filter(|one| **one != own));
    let mut seen = Vec::new();
    for separator in separators {
        let (names, rows) = first_rows(path, separator, ROWS)?;
        if names.len() < 2 {
            continue;
        }
        if let Some([image, caption]) = columns(path, &names, &rows) {
            let kind = format!(
                "a table with images in `{}` and captions in `{}`",
                printable(&names[image]),
                printable(&names[caption])
            );
            let source = SourceConfig::Csv(CsvConfig {
                image_column: names[image].clone(),
                caption_column: names[caption].clone(),
                separator: (separator != own).then_some(separator),
                ..CsvConfig::new(path)
            });
            return Ok(Candidate { source, kind });
        }
        seen = names;
    }
    let names: Vec<_> = seen.iter().map(|name| printable(name)).collect();
    let message = if names.is_empty() {
        "a table has a header and at least two columns, of images and of captions".to_string()
    } else {
        format!(
            "no column among `{}` names images that exist, starting from the table's folder or the working \
             directory; if they are in another folder, write the config with root",
            names.join("`, `")
        )
    };
    Err(DataError::invalid(path, message))
}

/// The places of the two columns.
fn columns(table: &Path, names: &[String], rows: &[Vec<String>]) -> Option<[usize; 2]> {
    let paths = ImagePaths::new(None, table);
    let is_named = |column: &usize| {
        let found = rows.iter().filter(|row| {
            let cell = row.get(*column).filter(|cell| !cell.trim().is_empty());
            cell.is_some_and(|cell| paths.resolve(cell).is_file())
        });
        2 * found.count() > rows.len()
    };
    let image = by_name(names, &IMAGE_NAMES).find(is_named)?;
    let words = |column: &usize| {
        let cells = rows.iter().filter_map(|row| row.get(*column));
        cells
            .map(|cell| cell.split_whitespace().count())
            .sum::<usize>()
    };
    let known = by_name(names, &CAPTION_NAMES)
        .take_while(|column| is_known(&names[*column], &CAPTION_NAMES));
    let has_words = |column: &usize| *column != image && words(column) > 0;
    let caption = known.into_iter().find(has_words);
    let longest = || (0..names.len()).filter(has_words).max_by_key(words);
    Some([image, caption.or_else(longest)?])
}

fn is_known(name: &str, known: &[&str]) -> bool {
    known.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// All columns, those with known names first.
fn by_name<'a>(names: &'a [String], known: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
    let place = |one: &&str| names.iter().position(|name| name.eq_ignore_ascii_case(one));
    let first = known.iter().filter_map(place);
    let rest = (0..names.len()).filter(|column| !is_known(&names[*column], known));
    first.collect::<Vec<_>>().into_iter().chain(rest)
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
