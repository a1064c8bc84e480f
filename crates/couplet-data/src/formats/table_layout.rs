//! How a table is laid out: its separator, and which of its columns hold images and captions.

use std::path::Path;

use super::column_names::{CAPTION_NAMES, IMAGE_NAMES};
use super::csv::first_rows;
use super::error::DataError;
use super::image_files::ImagePaths;

/// Separators that are tried; the one that a file's name suggests is first.
const SEPARATORS: [char; 4] = [',', '\t', ';', '|'];
/// Rows that are looked at.
const ROWS: usize = 20;

/// The header of a CSV or TSV file, and its first rows.
pub(crate) struct TableLayout {
    /// Where the file's name suggests another one.
    pub separator: Option<char>,
    pub names: Vec<String>,
    /// The column that names images that exist.
    pub image: Option<usize>,
    rows: Vec<Vec<String>>,
}

impl TableLayout {
    /// Finds the separator by which a column names images that exist, else the first that makes columns.
    ///
    /// # Errors
    /// If the file cannot be read as a table.
    pub fn of(path: &Path) -> Result<Self, DataError> {
        let is_tsv = (path.extension()).is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
        let own = if is_tsv { '\t' } else { ',' };
        let others = SEPARATORS.into_iter().filter(|one| *one != own);
        let mut first: Option<Self> = None;
        for separator in std::iter::once(own).chain(others) {
            let (names, rows) = first_rows(path, separator, ROWS)?;
            let image = image_column(path, &names, &rows).filter(|_| names.len() > 1);
            let layout = Self {
                separator: (separator != own).then_some(separator),
                names,
                image,
                rows,
            };
            if layout.image.is_some() {
                return Ok(layout);
            }
            if first
                .as_ref()
                .is_none_or(|first| first.names.len() < 2 && layout.names.len() > 1)
            {
                first = Some(layout);
            }
        }
        Ok(first.expect("there are separators"))
    }

    /// The column of captions: one of their names, else that with the most words, at least `least` a row.
    pub fn caption(&self, least: usize) -> Option<usize> {
        let words = |column: &usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(*column));
            cells
                .map(|cell| cell.split_whitespace().count())
                .sum::<usize>()
        };
        let is_other = |column: &usize| Some(*column) != self.image;
        let known = by_name(&self.names, &CAPTION_NAMES)
            .filter(|column| is_known(&self.names[*column], &CAPTION_NAMES))
            .find(|column| is_other(column) && words(column) > 0);
        let longest = || (0..self.names.len()).filter(is_other).max_by_key(words);
        let has_words = |column: &usize| words(column) >= (least * self.rows.len()).max(1);
        known.or_else(|| longest().filter(has_words))
    }
}

fn image_column(table: &Path, names: &[String], rows: &[Vec<String>]) -> Option<usize> {
    let paths = ImagePaths::new(None, table);
    let names_images = |column: &usize| {
        let found = rows.iter().filter(|row| {
            let cell = row.get(*column).filter(|cell| !cell.trim().is_empty());
            cell.is_some_and(|cell| paths.resolve(cell).is_file())
        });
        2 * found.count() > rows.len()
    };
    by_name(names, &IMAGE_NAMES).find(names_images)
}

/// Whether a name is one of these, in any case.
pub(crate) fn is_known(name: &str, known: &[&str]) -> bool {
    known.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// All columns, those with known names first.
pub(crate) fn by_name<'a>(
    names: &'a [String],
    known: &'a [&'a str],
) -> impl Iterator<Item = usize> + 'a {
    let place = |one: &&str| names.iter().position(|name| name.eq_ignore_ascii_case(one));
    let first = known.iter().filter_map(place);
    let rest = (0..names.len()).filter(|column| !is_known(&names[*column], known));
    first.collect::<Vec<_>>().into_iter().chain(rest)
}
