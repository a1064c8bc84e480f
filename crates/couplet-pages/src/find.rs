//! Runs in folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders in folders that are looked into: a sweep has its trials in a folder of its own.
const DEPTH: usize = 2;

/// The runs in a folder and in the folders in it, by name; the folder itself, if it is one.
/// - problem: called with each folder in it that cannot be read, which is left out.
///
/// # Errors
/// If the folder itself cannot be read.
pub fn find_runs(
    folder: &Path,
    mut problem: impl FnMut(&Path, &io::Error),
) -> io::Result<Vec<PathBuf>> {
    find(folder, DEPTH, &mut problem)
}

fn find(
    folder: &Path,
    depth: usize,
    problem: &mut dyn FnMut(&Path, &io::Error),
) -> io::Result<Vec<PathBuf>> {
    if folder.join("metrics.jsonl").is_file() {
        return Ok(vec![folder.to_path_buf()]);
    }
    if depth == 0 {
        return Ok(Vec::new());
    }
    let mut inside: Vec<PathBuf> = (fs::read_dir(folder)?.filter_map(Result::ok))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    inside.sort();
    let mut found = Vec::new();
    for path in inside {
        match find(&path, depth - 1, problem) {
            Ok(runs) => found.extend(runs),
            Err(error) => problem(&path, &error),
        }
    }
    Ok(found)
}
