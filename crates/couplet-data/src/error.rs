//! Error texts: an error's text says what failed and where, its cause is in `source()`.

use std::error::Error;

/// An error and its causes on one line, for warnings and logs: `what failed: why: why`.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string().trim_end().to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        // Parsers end their excerpts with a newline.
        text.push_str(error.to_string().trim_end());
        cause = error.source();
    }
    text
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
