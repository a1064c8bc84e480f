//! Where a mistake is: a file or an argument, and the part of it that is wrong.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The part of a text that a mistake is shown at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file; `None` for an argument of the command line.
    pub file: Option<Arc<PathBuf>>,
    /// The whole text of the file, or the argument.
    pub text: Arc<str>,
    /// The bytes of `text` that are wrong; empty where something is missing.
    pub span: Range<usize>,
}

impl Place {
    /// A part of a file.
    pub(super) fn in_file(path: &Path, text: &str, span: Range<usize>) -> Self {
        Self {
            file: Some(Arc::new(path.to_path_buf())),
            text: text.into(),
            span,
        }
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.before().matches('\n').count() + 1
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> usize {
        let before = self.before();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before[start..].trim_start_matches('\u{feff}');
        line.chars().count() + 1
    }

    fn before(&self) -> &str {
        let at = self.span.start.min(self.text.len());
        self.text.get(..at).unwrap_or(&self.text)
    }
}

impl std::fmt::Display for Place {
    /// `mine.toml:3:7`, or the argument.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{}:{}", file.display(), self.line(), self.column()),
            None => f.write_str(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let place = |text: &str, at: usize| {
            let place = Place::in_file(Path::new("c.toml"), text, at..at);
            (place.line(), place.column())
        };
        assert_eq!(place("a = 1", 4), (1, 5));
        assert_eq!(place("a = 1\r\n\tb = 'é' # x", 15), (2, 8));
        assert_eq!(place("\u{feff}a = 1", 3), (1, 1));
        assert_eq!(place("", 0), (1, 1));
    }
}
