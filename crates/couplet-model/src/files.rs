//! Reading and writing the small files of model folders.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::spec::ModelSpec;
use crate::weights::WeightsError;

/// An error of reading or writing a model.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{}: cannot be read", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: cannot be written", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{}: no model here; give a folder with open_clip_config.json or with Hugging Face's \
         config.json, or a file of weights (.pt, .bin, .safetensors)",
        path.display()
    )]
    NoModel { path: PathBuf },
    #[error("{}: no weights here; expected {expected}", path.display())]
    NoWeights { path: PathBuf, expected: String },
    #[error("{}: not a config of {kind} that Couplet reads", path.display())]
    Config {
        path: PathBuf,
        kind: &'static str,
        source: serde_json::Error,
    },
    #[error("{}: {problems}", path.display())]
    Unsound { path: PathBuf, problems: String },
    #[error(
        "{}: the weights do not name their architecture{}; name it, activation included, with \
         --arch: a preset such as {} (`couplet model list`) or an open_clip config file",
        path.display(),
        hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default(),
        if fits.is_empty() { "ViT-B-32 or ViT-B-32-quickgelu".into() } else { fits.join(" or ") }
    )]
    UnknownArchitecture {
        path: PathBuf,
        /// What the file says.
        hint: Option<String>,
        /// The presets whose tensors have the same names and shapes.
        fits: Vec<&'static str>,
    },
    #[error("`{name}` is neither a preset (`couplet model list`) nor an open_clip config file")]
    UnknownName { name: String },
    #[error("cannot be written as {format}: {reasons}")]
    NotWritable {
        format: &'static str,
        reasons: String,
    },
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl FolderError {
    pub(crate) fn unsound(path: &Path, problems: &[String]) -> Self {
        Self::Unsound {
            path: path.to_path_buf(),
            problems: problems.join("; "),
        }
    }
}

/// The largest config that is read; the index of a large model has 100 KiB.
const MAX_TEXT: u64 = 16 << 20;

pub(crate) fn read_text(path: &Path) -> Result<String, FolderError> {
    let read = || {
        let mut text = String::new();
        let read = (fs::File::open(path)?.take(MAX_TEXT + 1)).read_to_string(&mut text)?;
        if read as u64 > MAX_TEXT {
            let message = format!("more than {} MiB, so not a config", MAX_TEXT >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(text)
    };
    read().map_err(|source| FolderError::Read {
        path: path.to_path_buf(),
        source,
    })
}

pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FolderError> {
    serde_json::from_str(text).map_err(|source| FolderError::Config {
        path: path.to_path_buf(),
        kind: "a model",
        source,
    })
}

/// Writes a file and syncs it to disk.
pub(crate) fn write_synced(path: &Path, text: &str) -> Result<(), FolderError> {
    let write = || {
        fs::write(path, text)?;
        fs::File::open(path)?.sync_all()
    };
    write().map_err(|source| FolderError::Write {
        path: path.to_path_buf(),
        source,
    })
}

/// Writes a value as indented JSON, and syncs the file to disk.
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If the value cannot be JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
    let text = serde_json::to_string_pretty(value).expect("plain values serialise");
    write_synced(path, &(text + "\n"))
}

/// Fails with all problems of a spec that was read from `path`.
pub(crate) fn check(path: &Path, spec: &ModelSpec) -> Result<(), FolderError> {
    let problems = spec.problems();
    if problems.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.field, problem.message))
        .collect();
    Err(FolderError::unsound(path, &list))
}
