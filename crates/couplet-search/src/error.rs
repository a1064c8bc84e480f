//! Why an index cannot be written or read.

use std::io;
use std::path::{Path, PathBuf};

use couplet_eval::NotFinite;

/// Why an index cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("{}: cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: not an index: it has no index.json; `couplet index` writes one", .0.display())]
    NotAnIndex(PathBuf),
    #[error("{}: {message}", path.display())]
    Damaged { path: PathBuf, message: String },
    #[error("{}: {message}", path.display())]
    Other { path: PathBuf, message: String },
    #[error("the features of an image cannot be used")]
    NotFinite(#[from] NotFinite),
}

impl IndexError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, message: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            message: format!("the index is damaged: {}; write it again", message.into()),
        }
    }

    pub(crate) fn other(path: &Path, message: impl Into<String>) -> Self {
        Self::Other {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }
}
