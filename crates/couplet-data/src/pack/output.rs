//! What is written, and how files get their final names.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackFormat {
    /// `000000.tar` and so on, with this many samples each.
    Webdataset { samples_per_shard: usize },
    /// `pairs.csv` with columns `filepath` and `title`, images in `images/`.
    Csv,
    /// Images, each with a `.txt` file of the same name.
    Folder,
    /// `000000.parquet` and so on, with columns `image` and `caption` and this many rows each. Needs
    /// the feature `parquet`.
    Parquet { rows_per_file: usize },
}

/// Why a dataset could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written", path.display())]
pub struct PackError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// An image file and its caption.
pub(super) struct Pair {
    pub bytes: Vec<u8>,
    pub extension: &'static str,
    pub caption: String,
}

/// Adds a path to an I/O error.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> PackError + use<> {
    let path = path.to_path_buf();
    move |source| PackError {
        path: path.clone(),
        source,
    }
}

/// The name of a file until it is complete.
pub(super) fn unfinished(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".unfinished-{name}"))
}

/// Syncs a complete file and gives it its final name.
pub(super) fn publish(file: &File, path: &Path, whole: &Path) -> Result<(), PackError> {
    file.sync_all().map_err(at(path))?;
    fs::rename(path, whole).map_err(at(whole))
}
