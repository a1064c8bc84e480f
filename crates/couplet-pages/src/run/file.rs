//! Files of a run's folder.

use std::fs;
use std::path::{Path, PathBuf};

/// Why a folder is not shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}: not a run's folder: it has no metrics.jsonl; `couplet runs FOLDER` lists those in a folder", .0.display())]
    NotARun(PathBuf),
    #[error("{}: cannot be read", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The text of a file; empty if it is not there.
pub(super) fn text_of(path: &Path) -> Result<String, ReadError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(ReadError::File {
            path: path.to_path_buf(),
            source,
        }),
    }
}
