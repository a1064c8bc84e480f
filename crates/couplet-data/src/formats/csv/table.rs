//! The images' column of a table, and one other.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::records::{Cells, Record, Records, Shape};
use crate::formats::error::DataError;
use crate::formats::files::open_regular;
use crate::formats::image_files::ImagePaths;
use crate::formats::packing::Packing;
use crate::formats::text::{caption_problem, utf16_mark};
use crate::sample::{SampleError, SkipCause};

/// An open table, positioned at its first row of data.
struct CsvFile {
    records: Records<BufReader<File>>,
    names: Vec<String>,
}

/// Which columns of a table to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CsvColumns<'a> {
    pub image: &'a str,
    /// The other column, with the config key that names it.
    pub value: (&'a str, &'a str),
    /// One ASCII character; by default a tab for `.tsv` files and a comma for others.
    pub separator: Option<char>,
    /// The folder that relative image paths start from.
    pub root: Option<&'a Path>,
}

/// A row of a table.
#[derive(Debug)]
pub(crate) struct CsvRow {
    /// The line on which the row begins, counted from 1.
    pub line: u64,
    /// Whether it has fewer cells than the header: then a cell may be in the wrong column.
    pub is_short: bool,
    /// The image's path and the other cell.
    pub cells: Result<(PathBuf, String), SampleError>,
}

impl CsvColumns<'_> {
    /// Checks that the table can be opened and has the columns.
    pub fn check(&self, path: &Path) -> Result<(), DataError> {
        self.open(path).map(|_| ())
    }

    /// Reads all rows; the images stay on disk.
    ///
    /// # Errors
    /// If the table cannot be read, lacks a column, or has no rows. An unusable row is not an error of
    /// the table: its `cells` hold the error.
    pub fn rows(&self, path: &Path) -> Result<Vec<CsvRow>, DataError> {
        let (mut file, [image, value]) = self.open(path)?;
        let paths = ImagePaths::new(self.root, path);
        let columns = file.names.len();
        let places = paths.clone();
        file.records.set_shape(Shape {
            columns,
            image,
            is_image: Box::new(move |name| places.resolve(name).is_file()),
        });
        let mut rows = Vec::new();
        while let Some(record) = file.records.next().map_err(DataError::io(path))? {
            let Record { line, cells } = record;
            rows.push(match cells {
                Ok(cells) => CsvRow {
                    line,
                    is_short: cells.len() < columns,
                    cells: self.cells(cells, [image, value], &paths, columns),
                },
                Err(message) => CsvRow {
                    line,
                    is_short: false,
                    cells: Err(SampleError::new(SkipCause::InvalidCaption, message)),
                },
            });
        }
        if rows.is_empty() {
            return Err(DataError::invalid(
                path,
                "the table has a header but no rows",
            ));
        }
        Ok(rows)
    }

    /// Opens the table; returns it after its header, with the positions of the two columns.
    fn open(&self, path: &Path) -> Result<(CsvFile, [usize; 2]), DataError> {
        let file = CsvFile::open(path, self.separator)?;
        let find = |wanted: &str, key: &str| {
            let column = file.column(wanted, key);
            column.map_err(|message| DataError::invalid(path, message))
        };
        let columns = [
            find(self.image, "image_column")?,
            find(self.value.0, self.value.1)?,
        ];
        Ok((file, columns))
    }

    fn cells(
        &self,
        record: &Cells,
        [image, value]: [usize; 2],
        paths: &ImagePaths,
        columns: usize,
    ) -> Result<(PathBuf, String), SampleError> {
        if record.len() > columns {
            let message = format!(
                "{} cells, but the header has {columns}; quote cells that contain the separator",
                record.len()
            );
            return Err(SampleError::new(SkipCause::InvalidCaption, message));
        }
        let missing = |cause, name: &str| SampleError::new(cause, format!("no `{name}`"));
        let name = record.get(image).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| missing(SkipCause::MissingImage, self.image))?;
        let name = std::str::from_utf8(name)
            .map_err(|error| SampleError::new(SkipCause::MissingImage, error))?;
        let cell =
            (record.get(value)).ok_or_else(|| missing(SkipCause::MissingCaption, self.value.0))?;
        let cell = std::str::from_utf8(cell)
            .map_err(|error| SampleError::new(SkipCause::InvalidCaption, error))?
            .trim();
        if cell.is_empty() {
            let message = format!("`{}` is empty", self.value.0);
            return Err(SampleError::new(SkipCause::EmptyCaption, message));
        }
        if let Some(problem) = caption_problem(cell) {
            return Err(SampleError::new(SkipCause::InvalidCaption, problem));
        }
        Ok((paths.resolve(name), cell.to_string()))
    }
}

/// The names of a table's columns, and its first rows; rows that cannot be read are left out.
///
/// # Errors
/// If the file cannot be opened as a table.
pub(crate) fn first_rows(
    path: &Path,
    separator: char,
    most: usize,
) -> Result<(Vec<String>, Vec<Vec<String>>), DataError> {
    let mut file = CsvFile::open(path, Some(separator))?;
    let mut rows = Vec::new();
    while rows.len() < most {
        let Some(record) = file.records.next().map_err(DataError::io(path))? else {
            break;
        };
        if let Ok(cells) = record.cells {
            let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
            rows.push(cells.iter().map(text).collect());
        }
    }
    Ok((file.names, rows))
}

/// The number of a table's rows, blank lines and unusable rows as in `CsvColumns::rows`.
///
/// # Errors
/// If the file cannot be read as a table.
pub fn count_rows(path: &Path, separator: Option<char>) -> Result<usize, DataError> {
    let mut file = CsvFile::open(path, separator)?;
    if file.names.is_empty() {
        return Err(DataError::invalid(path, "the table is empty"));
    }
    let mut rows = 0;
    while file.records.next().map_err(DataError::io(path))?.is_some() {
        rows += 1;
    }
    Ok(rows)
}

impl CsvFile {
    fn open(path: &Path, separator: Option<char>) -> Result<Self, DataError> {
        let is_tsv = path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
        let separator = separator.unwrap_or(if is_tsv { '\t' } else { ',' });
        let invalid = |message: String| DataError::invalid(path, message);
        let file = open_regular(path).map_err(DataError::io(path))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let start = reader.fill_buf().map_err(DataError::io(path))?;
        if let Some(mark) = utf16_mark(start) {
            return Err(invalid(format!("the table is {mark}; save it as UTF-8")));
        }
        if let Some(packing) = Packing::of(start) {
            return Err(invalid(format!(
                "the table is compressed with {packing}; decompress it"
            )));
        }
        let mut records = Records::new(reader, u8::try_from(separator).unwrap_or(b','));
        let name = |bytes: &[u8]| {
            let name = String::from_utf8_lossy(bytes);
            name.trim_start_matches('\u{feff}').trim().to_string()
        };
        let names = match records.next().map_err(DataError::io(path))? {
            Some(header) => match header.cells {
                Ok(cells) => cells.iter().map(name).collect(),
                Err(message) => return Err(invalid(format!("the header: {message}"))),
            },
            None => Vec::new(),
        };
        Ok(Self { records, names })
    }

    /// The position of a column; whitespace around column names is ignored.
    /// - key: the config key that names it.
    fn column(&self, wanted: &str, key: &str) -> Result<usize, String> {
        let found = self.names.iter().position(|name| name == wanted.trim());
        found.ok_or_else(|| {
            let available = self.names.join("`, `");
            format!("no column `{wanted}` among `{available}`; set {key} or separator")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns<'a>(image: &'a str, value: &'a str) -> CsvColumns<'a> {
        CsvColumns {
            image,
            value: (value, "caption_column"),
            separator: None,
            root: None,
        }
    }

    #[test]
    fn columns_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = |name: &str, text: &str, columns: CsvColumns| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let mut rows = columns.rows(&path).map_err(|error| error.to_string())?;
            Ok::<_, String>(rows.remove(0).cells.unwrap().1)
        };
        let text = "\u{feff}image, caption\na.png,red\n";
        let found = first("a.csv", text, columns("image", " caption"));
        assert_eq!(found.unwrap(), "red");
        let missing = first("a.csv", text, columns("image", "title")).unwrap_err();
        assert!(missing.contains("`title` among `image`, `caption`; set caption_column"));
        let text = "image\tcaption, long\na\tb, c\n";
        let found = first("a.TSV", text, columns("image", "caption, long"));
        assert_eq!(found.unwrap(), "b, c");
        let semicolons = CsvColumns {
            separator: Some(';'),
            ..columns("image", "caption")
        };
        let found = first("b.tsv", "image;caption\na;b\tc\n", semicolons);
        assert_eq!(found.unwrap(), "b\tc");
    }

    #[test]
    fn an_unusable_row_has_its_line_and_cause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let text = b"image,caption\na,b\na,\xff\na\na,b,c\n,b\na, \n\"a,x\",\"b\nc\"\nd,e\n";
        std::fs::write(&path, text).unwrap();
        let rows = columns("image", "caption").rows(&path).unwrap();
        let causes: Vec<_> = (rows.iter())
            .map(|row| (row.line, row.cells.as_ref().err().map(|error| error.cause)))
            .collect();
        let wanted = [
            (2, None),
            (3, Some(SkipCause::InvalidCaption)),
            (4, Some(SkipCause::MissingCaption)),
            (5, Some(SkipCause::InvalidCaption)),
            (6, Some(SkipCause::MissingImage)),
            (7, Some(SkipCause::EmptyCaption)),
            (8, None),
            (10, None),
        ];
        assert_eq!(causes, wanted);
        // File names may contain separators.
        assert_eq!(rows[6].cells.as_ref().unwrap().0, folder.path().join("a,x"));
    }

    #[test]
    fn rows_of_a_table_are_not_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        for (text, count) in [
            ("a\tb\n1\t2\n\n3\t\"two\nlines\"\r\n", Some(2)),
            ("a\tb\n1\t2", Some(1)),
            ("", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(count_rows(&path, Some('\t')).ok(), count, "{text:?}");
        }
        assert_eq!(count_rows(&folder.path().join("none.csv"), None).ok(), None);
    }
}
