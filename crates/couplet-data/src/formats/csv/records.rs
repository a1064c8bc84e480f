//! The records of a table. A quote that is never closed costs its own row, not those after it.

use std::collections::VecDeque;
use std::io::{self, BufRead};

/// Longer rows are unusable.
const MAX_ROW_BYTES: usize = 16 << 20;
/// The lines of one row after its first: a quote that is never closed has as many lines read twice.
const MAX_ROW_LINES: usize = 256;

/// Reads records one by one.
pub(super) struct Records<R> {
    lines: Lines<R>,
    /// Lines of a row that turned out to be unusable, to be read again as rows of their own.
    pending: VecDeque<Line>,
    parser: csv_core::Reader,
    separator: u8,
    shape: Option<Shape>,
    cells: Cells,
}

/// What every row of a table should look like.
pub(super) struct Shape {
    pub columns: usize,
    /// The position of the images' column.
    pub image: usize,
    /// Whether there is an image of this name.
    pub is_image: Box<dyn Fn(&str) -> bool>,
}

/// A record, or why it is unusable.
pub(super) struct Record<'a> {
    /// The line on which it begins, counted from 1.
    pub line: u64,
    pub cells: Result<&'a Cells, String>,
}

/// The cells of a record, one after the other.
#[derive(Debug, Default)]
pub(super) struct Cells {
    bytes: Vec<u8>,
    written: usize,
    ends: Vec<usize>,
    count: usize,
}

impl Cells {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn get(&self, at: usize) -> Option<&[u8]> {
        let ends = &self.ends[..self.count];
        let end = *ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| ends[before]);
        Some(&self.bytes[start..end])
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).filter_map(|at| self.get(at))
    }
}

impl<R: BufRead> Records<R> {
    pub fn new(reader: R, separator: u8) -> Self {
        Self {
            lines: Lines { reader, read: 0 },
            pending: VecDeque::new(),
            parser: csv_core::ReaderBuilder::new().delimiter(separator).build(),
            separator,
            shape: None,
            cells: Cells::default(),
        }
    }

    /// Sets what the rows after the header should look like.
    pub fn set_shape(&mut self, shape: Shape) {
        self.shape = Some(shape);
    }

    /// The next record; blank lines are none. As in pandas, a quote opens a cell only at the cell's
    /// start, and a quoted cell may span lines. Where it does, the row is unusable, and the line after
    /// its first is read as the next row, if
    /// - the quote is not closed before the end of the file, or text follows the closing quote,
    /// - a line within the quotes is a row by itself: it has all cells, and names an image that exists,
    /// - or the row's number of cells is not the header's.
    pub fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        let first = loop {
            match self.line()? {
                None => return Ok(None),
                Some(line) if self.is_blank(&line.bytes) => {}
                Some(line) => break line,
            }
        };
        let line = first.number;
        let mut rest = Vec::new();
        let problem = if first.is_cut {
            Some(format!("the row has more than {MAX_ROW_BYTES} bytes"))
        } else {
            self.parse(&first, &mut rest)?
        };
        if problem.is_some() {
            for line in rest.into_iter().rev() {
                self.pending.push_front(line);
            }
        }
        Ok(Some(Record {
            line,
            cells: problem.map_or(Ok(&self.cells), Err),
        }))
    }

    /// Reads the cells of the record that begins with a line.
    /// - rest: receives the record's other lines.
    /// - returns what is wrong with it.
    fn parse(&mut self, first: &Line, rest: &mut Vec<Line>) -> io::Result<Option<String>> {
        self.parser.reset();
        (self.cells.written, self.cells.count) = (0, 0);
        let mut is_whole = self.feed(&first.bytes);
        let mut len = first.bytes.len();
        while !is_whole {
            let Some(next) = self.line()? else {
                return Ok(Some(NOT_CLOSED.into()));
            };
            len += next.bytes.len();
            let is_other = next.is_cut
                || len > MAX_ROW_BYTES
                || rest.len() >= MAX_ROW_LINES
                || self.has_text_after_quote(&next.bytes)
                || self.is_row(&next.bytes);
            if !is_other {
                is_whole = self.feed(&next.bytes);
            }
            rest.push(next);
            if is_other {
                return Ok(Some(NOT_CLOSED.into()));
            }
        }
        let wrong = self
            .shape
            .as_ref()
            .filter(|shape| shape.columns != self.cells.len());
        Ok(wrong.filter(|_| !rest.is_empty()).map(|shape| {
            format!(
                "the row spans {} lines and has {} cells, but the header has {}; check its quotes",
                rest.len() + 1,
                self.cells.len(),
                shape.columns
            )
        }))
    }

    /// Parses a line. Returns whether it ends the record; if not, the record goes on within quotes.
    fn feed(&mut self, line: &[u8]) -> bool {
        let cells = &mut self.cells;
        let most = memchr::memchr_iter(self.separator, line).count() + 1;
        grow(&mut cells.bytes, cells.written + line.len());
        grow(&mut cells.ends, cells.count + most);
        let (result, _, written, ended) = self.parser.read_record(
            line,
            &mut cells.bytes[cells.written..],
            &mut cells.ends[cells.count..],
        );
        cells.written += written;
        cells.count += ended;
        matches!(result, csv_core::ReadRecordResult::Record)
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        match self.pending.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }

    fn is_blank(&self, line: &[u8]) -> bool {
        (line.iter()).all(|byte| byte.is_ascii_whitespace() && *byte != self.separator)
    }

    /// Whether the quote that closes a cell in this line, which begins within quotes, is followed by
    /// more of the cell: then it rather opens another one.
    fn has_text_after_quote(&self, line: &[u8]) -> bool {
        let mut from = 0;
        while let Some(at) = memchr::memchr(b'"', &line[from..]).map(|at| from + at) {
            if line.get(at + 1) == Some(&b'"') {
                from = at + 2;
                continue;
            }
            let after = line[at + 1..].iter().find(|byte| **byte != b' ');
            return after.is_some_and(|byte| ![self.separator, b'\r', b'\n'].contains(byte));
        }
        false
    }

    /// Whether a line is a row by itself: it has all cells, and names an image that exists.
    fn is_row(&self, line: &[u8]) -> bool {
        let Some(shape) = &self.shape else {
            return false;
        };
        let cells: Vec<&[u8]> = line.split(|byte| *byte == self.separator).collect();
        let name = cells.get(shape.image).copied().unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        let name = name.trim_matches(|c: char| c == '"' || c.is_whitespace());
        cells.len() >= shape.columns && !name.is_empty() && (shape.is_image)(name)
    }
}

const NOT_CLOSED: &str =
    "a quote in this row is never closed; close it, or write \"\" for a quote in a quoted cell";

fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}

/// Splits at `\n`, `\r\n` and `\r`.
struct Lines<R> {
    reader: R,
    read: u64,
}

/// A line with its end; the last one always has one.
struct Line {
    /// Counted from 1.
    number: u64,
    bytes: Vec<u8>,
    /// Whether the line is longer than a row may be; the rest was dropped.
    is_cut: bool,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<Line>> {
        let (mut bytes, mut is_cut, mut is_empty) = (Vec::new(), false, true);
        let mut end = None;
        while end.is_none() {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            is_empty = false;
            let found = memchr::memchr2(b'\n', b'\r', buffer);
            end = found.map(|at| buffer[at]);
            let len = found.unwrap_or(buffer.len());
            let room = MAX_ROW_BYTES.saturating_sub(bytes.len());
            is_cut |= len > room;
            bytes.extend_from_slice(&buffer[..len.min(room)]);
            self.reader.consume(len + usize::from(found.is_some()));
        }
        if is_empty {
            return Ok(None);
        }
        if end == Some(b'\r') {
            bytes.push(b'\r');
            if self.reader.fill_buf()?.first() == Some(&b'\n') {
                self.reader.consume(1);
                end = Some(b'\n');
            }
        }
        if end != Some(b'\r') {
            bytes.push(b'\n');
        }
        self.read += 1;
        Ok(Some(Line {
            number: self.read,
            bytes,
            is_cut,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines and cells of a table with the columns image and caption.
    fn read(text: &[u8], separator: u8) -> Vec<(u64, Option<String>)> {
        let mut records = Records::new(text, separator);
        records.set_shape(Shape {
            columns: 2,
            image: 0,
            is_image: Box::new(|name| name.contains(".jpg")),
        });
        let mut rows = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let cells = record.cells.ok().map(|cells| {
                let cells = cells.iter().map(String::from_utf8_lossy);
                cells.collect::<Vec<_>>().join("|")
            });
            rows.push((record.line, cells));
        }
        rows
    }

    fn row(line: u64, cells: &str) -> (u64, Option<String>) {
        (line, Some(cells.to_string()))
    }

    #[test]
    fn a_quote_that_is_never_closed_costs_its_own_row() {
        let wanted = [(1, None), row(2, "2.jpg|a cat"), row(3, "3.jpg|a bird")];
        assert_eq!(
            read(b"1.jpg,\"a dog\n2.jpg,a cat\n3.jpg,a bird", b','),
            wanted
        );
        // Another row's quotes do not close it.
        assert_eq!(
            read(b"1.jpg\t\"a dog\n2.jpg\ta cat\n3.jpg\t\"a bird\"\n", b'\t'),
            wanted
        );
        let two = read(b"1\t\"a dog\n2\ta cat\n3\t\"a bird\n4\tx\n", b'\t');
        assert_eq!(
            two,
            [(1, None), row(2, "2|a cat"), (3, None), row(4, "4|x")]
        );
        // Nor does a quote at the end of another row's caption.
        let inch = read(b"1.jpg,\"a dog\n2.jpg,a cat\n3.jpg,a bird of 12\"\n", b',');
        assert_eq!(inch[..2], wanted[..2]);
        assert_eq!(inch[2], row(3, "3.jpg|a bird of 12\""));
    }

    /// The cells are what `pandas.read_csv` gives.
    #[test]
    fn quotes_and_line_ends_are_read_as_in_pandas() {
        let read = |text: &str| read(text.as_bytes(), b',');
        assert_eq!(
            read("a,\"one\r\ntwo, \"\"2\"\"\"\r\n\r\n  \nb,x\ry,z"),
            [row(1, "a|one\r\ntwo, \"2\""), row(5, "b|x"), row(6, "y|z")]
        );
        assert_eq!(
            read("a,5\" pipe\nb,\"5\" pipe\nc,\"\"\n"),
            [row(1, "a|5\" pipe"), row(2, "b|5 pipe"), row(3, "c|")]
        );
        assert_eq!(read("a,x\0y\n#b,c\n"), [row(1, "a|x\0y"), row(2, "#b|c")]);
        assert_eq!(read("a,\"\n\"\n"), [row(1, "a|\n")]);
    }

    #[test]
    fn a_row_over_several_lines_must_have_all_cells() {
        let rows = read(b"a,\"one\ntwo\",x\nb,c\n", b',');
        assert_eq!(rows, [(1, None), row(2, "two\"|x"), row(3, "b|c")]);
    }

    #[test]
    fn a_line_that_is_too_long_costs_itself() {
        let long = vec![b'x'; MAX_ROW_BYTES + 1];
        let text = [b"a,b\nc,", &long[..], b"\nd,\"", &long[..], b"\ne,f\n"].concat();
        let wanted = [row(1, "a|b"), (2, None), (3, None), row(4, "e|f")];
        assert_eq!(read(&text, b','), wanted);
    }

    /// Takes seconds if reading again is not bounded.
    #[test]
    fn many_open_quotes_take_no_longer_than_their_lines() {
        // The second closes the quote of the line before and opens the next.
        for (line, lines) in [("a,\"b\n", 200_000), ("a\",\"\n", 20_000)] {
            let rows = read(line.repeat(lines).as_bytes(), b',');
            assert!(rows.len() == lines && rows.iter().all(|row| row.1.is_none()));
        }
    }
}
