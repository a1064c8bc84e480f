//! CSV and TSV tables whose first row names their columns.

use std::fs::File;
use std::path::Path;

use csv::{Reader, ReaderBuilder};

/// One that is open, read up to its first row of data.
pub(crate) struct CsvFile {
    pub reader: Reader<File>,
    names: Vec<String>,
}

impl CsvFile {
    /// - separator: one ASCII character; by default a tab for `.tsv` files and a comma for
    ///   others.
    /// - flexible: whether rows may have more or fewer cells than the header.
    ///
    /// # Errors
    /// If the file or its first row cannot be read.
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

    /// Where a column stands; spaces around its name do not count.
    /// - key: what names it in a config.
    ///
    /// # Errors
    /// With the columns that there are.
    pub fn column(&self, wanted: &str, key: &str) -> Result<usize, String> {
        let place = self.names.iter().position(|name| name == wanted.trim());
        place.ok_or_else(|| {
            let there_are = self.names.join("`, `");
            format!("no column `{wanted}` among `{there_are}`; set {key} or separator")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_names_alone() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, text: &str, separator| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            CsvFile::open(&path, separator, false).unwrap()
        };
        let file = open("a.csv", "\u{feff}image, caption\na.png,red\n", None);
        assert_eq!(file.column("image", "image_column"), Ok(0));
        assert_eq!(file.column(" caption", "caption_column"), Ok(1));
        let missing = file.column("title", "caption_column").unwrap_err();
        assert!(missing.contains("`title` among `image`, `caption`; set caption_column"));
        let file = open("a.TSV", "image\tcaption, long\n", None);
        assert_eq!(file.column("caption, long", ""), Ok(1));
        let file = open("b.tsv", "image;caption\n", Some(';'));
        assert_eq!(file.column("caption", ""), Ok(1));
    }
}
