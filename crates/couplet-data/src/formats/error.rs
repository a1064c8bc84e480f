//! Errors of opening a dataset.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "parquet")]
use crate::error::LastCause;
use crate::error::{printable, printable_path, printable_text};

/// The file, URL or key that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file or folder.
    Path(PathBuf),
    /// An object in an object store or on a web server.
    Url(String),
    /// A config key, relative to the source's table.
    Key(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&printable_path(path)),
            Self::Url(url) => f.write_str(&printable(url)),
            Self::Key(key) => f.write_str(key),
        }
    }
}

/// Why a dataset could not be opened: the file or key, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file or folder cannot be read.
    #[error("{}: cannot be read", printable_path(path))]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The library that reads the format rejected the file.
    #[error("{}: cannot be read", printable_path(path))]
    Format {
        path: PathBuf,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The content is invalid.
    #[error("{place}: {}", printable_text(message))]
    Invalid { place: Place, message: String },
}

impl DataError {
    /// A file system error at `path`, for `map_err`.
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }

    /// An error of a format's library at `path`, for `map_err`.
    #[cfg(feature = "parquet")]
    pub(crate) fn format<E: Error + Send + Sync + 'static>(
        path: &Path,
    ) -> impl Fn(E) -> Self + use<E> {
        let path = path.to_path_buf();
        move |source| Self::Format {
            path: path.clone(),
            source: Box::new(LastCause(source)),
        }
    }

    /// An error about the content of a file or folder.
    pub(crate) fn invalid(path: &Path, message: impl fmt::Display) -> Self {
        Self::Invalid {
            place: Place::Path(path.to_path_buf()),
            message: message.to_string(),
        }
    }

    /// An error about the value of a config key.
    pub(crate) fn key(key: &'static str, message: impl fmt::Display) -> Self {
        Self::Invalid {
            place: Place::Key(key),
            message: message.to_string(),
        }
    }

    /// An error about an object in an object store.
    pub(crate) fn url(url: &str, message: impl fmt::Display) -> Self {
        Self::Invalid {
            place: Place::Url(url.to_string()),
            message: message.to_string(),
        }
    }
}
