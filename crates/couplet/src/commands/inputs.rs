//! Texts and images that the arguments name.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use couplet_data::formats::list_images;

use crate::exit_code;

/// The lines of a file, or of standard input for `-`.
pub(crate) fn read_lines(path: &Path) -> anyhow::Result<Vec<String>> {
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
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + String::from_utf8_lossy(sound).matches('\n').count();
        anyhow!("{}: line {line} is not UTF-8", path.display())
    })?;
    Ok(text.lines().map(str::to_string).collect())
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
    eprintln!("left out: {error}");
}

/// The exit code of a command that has left out some of its inputs; if any, they are counted.
/// - what: the inputs: `images`, `texts` or both.
pub(crate) fn exit_code(left_out: usize, total: usize, what: &str) -> u8 {
    if left_out == 0 {
        return exit_code::DONE;
    }
    eprintln!("error: {left_out} of {total} {what} are left out");
    exit_code::FAILED
}
