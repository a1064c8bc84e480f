//! Why a tokenizer cannot be used.

use std::path::PathBuf;

use crate::error::LastCause;

/// Why a tokenizer could not be read, trained or written.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("{}: cannot be read", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not a valid tokenizer.json", path.display())]
    Format {
        path: PathBuf,
        source: LastCause<tokenizers::Error>,
    },
    #[error("{}: cannot be written", path.display())]
    Write {
        path: PathBuf,
        source: LastCause<tokenizers::Error>,
    },
    #[error("{}: cannot be copied to {}", from.display(), to.display())]
    Copy {
        from: PathBuf,
        to: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "a vocabulary of {vocab_size} tokens is too small for all bytes; give at least {smallest}"
    )]
    VocabularyTooSmall { vocab_size: usize, smallest: usize },
    #[error("the tokenizer cannot be trained")]
    Train(#[source] LastCause<tokenizers::Error>),
}
