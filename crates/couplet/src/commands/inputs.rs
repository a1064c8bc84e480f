//! Texts and images that the arguments name.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use couplet_data::formats::list_images;
use couplet_data::printable_text;

use crate::exit_code;
use crate::printing;

/// The lines of a file, or of standard input for `-`, without a byte-order mark.
pub(crate) fn read_lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let lines = each_line(path)?.into_iter().enumerate();
    let lines = lines.map(|(at, line)| line.ok_or_else(|| anyhow!(not_utf8(path, at))));
    lines.collect()
}

/// As [`read_lines`], but a line that is not UTF-8 is reported and left out.
/// - returns the lines, and how many are left out.
pub(crate) fn usable_lines(path: &Path) -> anyhow::Result<(Vec<String>, usize)> {
    let all = each_line(path)?;
    let total = all.len();
    let mut lines = Vec::with_capacity(total);
    for (at, line) in all.into_iter().enumerate() {
        match line {
            Some(line) => lines.push(line),
            None => print_left_out(&not_utf8(path, at)),
        }
    }
    let left_out = total - lines.len();
    Ok((lines, left_out))
}

/// - at: the line's index, from 0.
fn not_utf8(path: &Path, at: usize) -> String {
    format!("{}: line {} is not UTF-8", path.display(), at + 1)
}

/// The lines of a file; `None` for one that is not UTF-8.
fn each_line(path: &Path) -> anyhow::Result<Vec<Option<String>>> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("standard input cannot be read")?;
        bytes
    } else {
        std::fs::read(path)
            .with_context(|| format!("{}: cannot be read; check the path", path.display()))?
    };
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        String::from_utf8(line.to_vec()).ok()
    };
    Ok(bytes.split(|byte| *byte == b'\n').map(line).collect())
}

/// Files as they are, and of folders the images in them and their sub-folders, sorted by path.
pub(crate) fn image_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(list_images(path)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Prints an input that is left out of the output.
pub(crate) fn print_left_out(error: &impl std::fmt::Display) {
    printing::note(&format!("left out: {}", printable_text(&error.to_string())));
}

/// The exit code of a command that has left out some of its inputs; if any, they are counted.
/// - what: the inputs: `images`, `texts` or both.
pub(crate) fn exit_code(left_out: usize, total: usize, what: &str) -> u8 {
    if left_out == 0 {
        return exit_code::DONE;
    }
    printing::error(&format!("{left_out} of {total} {what} are left out"));
    exit_code::FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_str_without_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.txt");
        for text in [
            "",
            "\n",
            "a",
            "a\n",
            "a\r\nb\n\nc",
            "a\n\n",
            "\r\n",
            "\u{e9}\rb\n",
        ] {
            let wanted: Vec<&str> = text.lines().collect();
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_lines(&path).unwrap(), wanted, "{text:?}");
            std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
            assert_eq!(read_lines(&path).unwrap(), wanted, "{text:?}");
        }
        std::fs::write(&path, b"a\n\xff\nb\n").unwrap();
        assert_eq!(
            usable_lines(&path).unwrap(),
            (vec!["a".into(), "b".into()], 1)
        );
        let error = read_lines(&path).unwrap_err().to_string();
        assert!(error.ends_with("texts.txt: line 2 is not UTF-8"), "{error}");
    }
}
