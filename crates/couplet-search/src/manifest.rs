//! `index.json`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use couplet_eval::Encoder;
use serde::{Deserialize, Serialize};

use crate::error::IndexError;

pub(crate) const MANIFEST_FILE: &str = "index.json";
/// Its name until it is complete.
pub(crate) const UNFINISHED: &str = ".index.json.unfinished";
/// The format that this version reads and writes.
pub(crate) const FORMAT: u32 = 1;

/// What an index is of, and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub model: ModelMark,
    pub embed_dim: usize,
    /// Where the images were looked for, as absolute paths.
    pub images: Vec<PathBuf>,
    /// Images found there, and the fingerprint of their files.
    pub total: usize,
    pub(crate) images_fingerprint: String,
    /// Images that are done, the rows that they gave, and those that could not be used.
    pub done: usize,
    pub rows: usize,
    pub skipped: usize,
    /// The lengths of `rows.jsonl` and `skipped.jsonl`.
    pub(crate) row_bytes: u64,
    pub(crate) skipped_bytes: u64,
}

/// What tells whether a model is the one that made an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMark {
    /// The file of weights, as an absolute path.
    pub weights: PathBuf,
    /// Its size and the time of its last change, in nanoseconds: while these are the same, nothing is hashed.
    size: u64,
    changed: u64,
    /// Of weights, architecture, preprocessing and precision.
    pub fingerprint: String,
}

impl ModelMark {
    /// The mark of a model.
    ///
    /// # Errors
    /// If its file of weights is not known or not there.
    pub fn of(encoder: &Encoder) -> Result<Self, IndexError> {
        let weights = weights_of(encoder)?;
        let (size, changed) = stamp(&weights)?;
        Ok(Self {
            weights,
            size,
            changed,
            fingerprint: fingerprint(encoder),
        })
    }

    /// Whether a model is this one.
    pub fn is(&self, encoder: &Encoder) -> bool {
        let same_file = weights_of(encoder).is_ok_and(|weights| {
            weights == self.weights
                && stamp(&weights).is_ok_and(|stamp| stamp == (self.size, self.changed))
        });
        // Options such as the precision are not in the file.
        let is_plain = same_file && self.fingerprint.ends_with(&settings(encoder));
        is_plain || self.fingerprint == fingerprint(encoder)
    }
}

/// The weights' fingerprint, and that of what else features depend on.
fn fingerprint(encoder: &Encoder) -> String {
    format!(
        "{:016x}{}",
        encoder.weights_fingerprint(),
        settings(encoder)
    )
}

fn settings(encoder: &Encoder) -> String {
    format!("-{:016x}", encoder.settings_fingerprint())
}

fn weights_of(encoder: &Encoder) -> Result<PathBuf, IndexError> {
    let weights = encoder.weights().unwrap_or(Path::new(""));
    fs::canonicalize(weights).map_err(IndexError::io(weights))
}

fn stamp(file: &Path) -> Result<(u64, u64), IndexError> {
    let found = fs::metadata(file).map_err(IndexError::io(file))?;
    let changed = found.modified().ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let changed = changed.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    Ok((found.len(), changed))
}

impl Manifest {
    /// Reads the manifest of the index in a folder.
    ///
    /// # Errors
    /// If there is none, or it is damaged or of another version.
    pub fn read(folder: &Path) -> Result<Self, IndexError> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                IndexError::NotAnIndex(folder.to_path_buf())
            }
            _ => IndexError::io(&path)(error),
        })?;
        let read: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| IndexError::damaged(&path, error.to_string()))?;
        let format = read["format"].as_u64();
        if format != Some(u64::from(FORMAT)) {
            let found = format.map_or("none".into(), |format| format.to_string());
            let message = format!(
                "its format is {found}; this version reads {FORMAT}; write the index again"
            );
            return Err(IndexError::other(&path, message));
        }
        serde_json::from_value(read).map_err(|error| IndexError::damaged(&path, error.to_string()))
    }

    /// Replaces the manifest in a folder as a whole.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), IndexError> {
        let path = folder.join(MANIFEST_FILE);
        let unfinished = folder.join(UNFINISHED);
        let text = serde_json::to_string_pretty(self).expect("manifests serialize") + "\n";
        let write = || {
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            // The name, too, is on the disk before what it says counts.
            #[cfg(unix)]
            fs::File::open(folder)?.sync_all()?;
            Ok(())
        };
        write().map_err(IndexError::io(&path))
    }

    /// Whether all images are done.
    pub fn is_complete(&self) -> bool {
        self.done == self.total
    }

    /// Bytes that each search reads.
    pub fn bytes(&self) -> u64 {
        feature_bytes(self.rows, self.embed_dim)
    }
}

/// Bytes of the features of so many rows.
pub(crate) fn feature_bytes(rows: usize, embed_dim: usize) -> u64 {
    (rows * embed_dim * size_of::<f32>()) as u64
}
