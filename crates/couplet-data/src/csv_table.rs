//! CSV and TSV tables whose first row names their columns.

use std::fs::File;
use std::path::Path;

use csv::{Reader, ReaderBuilder};

/// A table behind its header.
pub(crate) struct Table {
    pub reader: Reader<File>,
    names: Vec<String>,
}

impl Table {
    /// - separator: one ASCII character; by default a tab for `.tsv` files and a comma for
    ///   others.
    /// - flexible: whether rows may have more or fewer cells than the header.
    pub fn open(path: &Path, separator: Option<char>, flexible: bool) -> Result<Self, csv::Error> {
        let is_tsv = path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
        let separator = separator.unwrap_or(if is_tsv { '\t' } else { ',' });
        let mut reader = ReaderBuilder::new()
            .delimiter(u8::try_from(separator).unwrap_or(b','))
            .flexible(flexible)
            .from_path(path)?;
        let name = |bytes: &[u8]| {
            let name = String::from_utf8_lossy(bytes);
            name.trim_start_matches('\u{feff}').trim().to_string()
        };
        let names = reader.byte_headers()?.iter().map(name).collect();
        Ok(Self { reader, names })
    }

    /// Where a column stands.
    /// - key: what names it in a config.
    ///
    /// # Errors
    /// With the columns that there are.
    pub fn column(&self, wanted: &str, key: &str) -> Result<usize, String> {
        let place = self.names.iter().position(|name| name == wanted);
        place.ok_or_else(|| {
            let there_are = self.names.join("`, `");
            format!("no column `{wanted}` among `{there_are}`; set {key} or separator")
        })
    }
}
