//! What is wrong with a config.

use std::fmt;
use std::path::{Path, PathBuf};

use super::place::Place;

/// One mistake in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigIssue {
    /// Path of the key, such as `model.image.heads`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do, such as which key is meant.
    pub help: Option<String>,
    pub kind: IssueKind,
    /// The key or the value in the file or in an argument; `None` where there is none.
    pub place: Option<Place>,
}

/// Which part of a key a mistake is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueKind {
    /// The key has no place in its table.
    Unknown,
    /// The key has a wrong value.
    Value,
    /// The key is missing.
    Missing {
        /// Whether it is a table with a header of its own.
        is_table: bool,
    },
}

impl ConfigIssue {
    /// - text: what is wrong; after its last semicolon, what to do.
    pub(crate) fn new(key: &str, text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let (message, help) = match advice_at(&text) {
            Some(at) => (text[..at].to_string(), Some(text[at + 2..].to_string())),
            None => (text, None),
        };
        Self {
            key: key.to_string(),
            message,
            help,
            kind: IssueKind::Value,
            place: None,
        }
    }

    /// As [`Self::new`], of a key that its table does not have.
    pub(crate) fn unknown(key: &str, text: impl fmt::Display) -> Self {
        Self {
            kind: IssueKind::Unknown,
            ..Self::new(key, text)
        }
    }

    /// As [`Self::new`], of a key that is missing.
    pub(crate) fn missing(key: &str, is_table: bool, text: impl fmt::Display) -> Self {
        Self {
            kind: IssueKind::Missing { is_table },
            ..Self::new(key, text)
        }
    }

    /// What is wrong and what to do.
    pub fn text(&self) -> String {
        match &self.help {
            Some(help) => format!("{}; {help}", self.message),
            None => self.message.clone(),
        }
    }
}

/// Where the advice of a message begins: at its last semicolon that is in no quotes.
fn advice_at(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut found = None;
    for (at, letter) in text.char_indices() {
        if let Some(open) = quote {
            if letter == open {
                quote = None;
            }
        } else if matches!(letter, '`' | '"') {
            quote = Some(letter);
        } else if text[at..].starts_with("; ") {
            found = Some(at);
        }
    }
    found
}

impl fmt::Display for ConfigIssue {
    /// `mine.toml:3:7: model.text.width: must be at least 1, not 0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text())
    }
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read; check the path", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Every mistake, in the order of the file, then those of arguments.
    #[error("{}", describe(path, problems))]
    Problems {
        path: PathBuf,
        problems: Vec<ConfigIssue>,
    },
}

impl ConfigError {
    /// `2 mistakes in mine.toml`
    pub fn summary(path: &Path, problems: &[ConfigIssue]) -> String {
        let count = match problems.len() {
            1 => "1 mistake".to_string(),
            n => format!("{n} mistakes"),
        };
        format!("{count} in {}", path.display())
    }
}

fn describe(path: &Path, problems: &[ConfigIssue]) -> String {
    let mut text = ConfigError::summary(path, problems);
    for problem in problems {
        text.push_str(&format!("\n  {problem}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_a_semicolon_that_is_in_no_quotes() {
        let parts = |text: &str| {
            let issue = ConfigIssue::new("k", text);
            assert_eq!(issue.text(), text);
            (issue.message, issue.help)
        };
        assert_eq!(
            parts("unknown key; did you mean `a; b`?"),
            ("unknown key".into(), Some("did you mean `a; b`?".into()))
        );
        let quoted = "found the string \"a; b\"";
        assert_eq!(parts(quoted), (quoted.to_string(), None));
    }
}
