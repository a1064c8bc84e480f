//! Error texts: an error's text says what failed and where, its cause is in `source()`.

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;

/// A name from a file or the file system, for messages: characters that a terminal would obey or that
/// would change how the rest is shown are written as `\u{1b}`.
pub fn printable(name: &str) -> Cow<'_, str> {
    escape(name, &is_unprintable)
}

/// As [`printable`], for a path.
pub fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// As [`printable`], for a text that may have several lines.
pub fn printable_text(text: &str) -> Cow<'_, str> {
    escape(text, &|c| is_unprintable(c) && c != '\n' && c != '\t')
}

/// Control characters, and those that reorder text or break lines.
fn is_unprintable(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{feff}')
}

fn escape<'a>(text: &'a str, is_escaped: &dyn Fn(char) -> bool) -> Cow<'a, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut printed = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_escaped(c) {
            printed.extend(c.escape_unicode());
        } else {
            printed.push(c);
        }
    }
    Cow::Owned(printed)
}

/// An error and its causes on one line, for warnings and logs: `what failed: why: why`. It is
/// [`printable_text`].
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string().trim_end().to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        // Parsers end their excerpts with a newline.
        text.push_str(error.to_string().trim_end());
        cause = error.source();
    }
    printable_text(&text).into_owned()
}

/// Another crate's error whose text already quotes its own cause. It ends the chain of sources, so
/// that no cause is printed twice.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LastCause<E>(pub E);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("a.tar: cannot be read")]
    struct Outer {
        source: Quoting,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the header is cut off: {source}\n")]
    struct Quoting {
        source: io::Error,
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let name = "a\u{1b}[31m\r\n\u{9b}2J\u{202e}gpj.\u{e9}\u{4e16} b";
        let escaped = "a\\u{1b}[31m\\u{d}\\u{a}\\u{9b}2J\\u{202e}gpj.\u{e9}\u{4e16} b";
        assert_eq!(printable(name), escaped);
        assert_eq!(printable_text("a\n\tb\r"), "a\n\tb\\u{d}");
        assert!(matches!(printable("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn every_cause_is_on_the_line_and_last_cause_ends_the_chain() {
        let quoting = || Quoting {
            source: io::Error::other("no more bytes"),
        };
        let outer = Outer { source: quoting() };
        assert_eq!(
            with_causes(&outer),
            "a.tar: cannot be read: the header is cut off: no more bytes: no more bytes"
        );
        assert_eq!(
            with_causes(&LastCause(quoting())),
            "the header is cut off: no more bytes"
        );
    }
}
