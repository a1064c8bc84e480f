//! What is wrong with a config.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigIssue {
    /// Path of the key, such as `model.image.heads`; empty for the file as a whole.
    pub key: String,
    pub message: String,
}

impl ConfigIssue {
    pub(crate) fn new(key: &str, message: impl fmt::Display) -> Self {
        Self {
            key: key.to_string(),
            message: message.to_string(),
        }
    }
}

impl fmt::Display for ConfigIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not a TOML file", path.display())]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{}", describe(path, problems))]
    Problems {
        path: PathBuf,
        problems: Vec<ConfigIssue>,
    },
}

fn describe(path: &Path, problems: &[ConfigIssue]) -> String {
    let count = match problems.len() {
        1 => "1 problem".to_string(),
        n => format!("{n} problems"),
    };
    let mut text = format!("{}: {count}", path.display());
    for problem in problems {
        text.push_str(&format!("\n  {problem}"));
    }
    text
}

pub(super) fn issues_of(path: &Path, issues: Vec<ConfigIssue>) -> ConfigError {
    ConfigError::Problems {
        path: path.to_path_buf(),
        problems: issues,
    }
}
