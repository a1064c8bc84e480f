//! Text files with one entry per line: class names and templates.

use std::path::Path;

use super::error::DataError;
use super::files::{MAX_TEXT_BYTES, read_regular};
use super::text::decode_file;

/// The lines of a text file, trimmed, without blank lines and a byte order mark.
///
/// # Errors
/// If the file cannot be read or is not UTF-8.
pub fn read_lines(path: &Path) -> Result<Vec<String>, DataError> {
    let mut lines = read_lines_with_blanks(path)?;
    lines.retain(|line| !line.is_empty());
    Ok(lines)
}

/// As [`read_lines`], with the blank lines that are not at the end.
pub(crate) fn read_lines_with_blanks(path: &Path) -> Result<Vec<String>, DataError> {
    let bytes = read_regular(path, MAX_TEXT_BYTES).map_err(DataError::io(path))?;
    let text = decode_file(path, bytes)?;
    let lines = text.trim_end().lines();
    Ok(lines.map(|line| line.trim().to_string()).collect())
}

/// As [`read_lines`]; `None` if there is no such file.
pub(crate) fn read_lines_if_present(path: &Path) -> Result<Option<Vec<String>>, DataError> {
    if !path.is_file() {
        return Ok(None);
    }
    read_lines(path).map(Some)
}
