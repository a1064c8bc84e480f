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
    #[error("{}: not a valid tokenizer", path.display())]
    Format {
        path: PathBuf,
        source: LastCause<tokenizers::Error>,
    },
    #[error(
        "{}: not a tokenizer.json: a file of at most {} MiB is expected",
        path.display(), most_bytes >> 20
    )]
    NoTokenizer { path: PathBuf, most_bytes: u64 },
    #[error("{}: not valid JSON", path.display())]
    Json {
        path: PathBuf,
        source: LastCause<serde_json::Error>,
    },
    #[error("{}: no text can be encoded", path.display())]
    Unusable { path: PathBuf, source: EncodeError },
    #[error(
        "{}: has no separator to strip; name its sep_token in tokenizer_config.json",
        path.display()
    )]
    NoSeparator { path: PathBuf },
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
        "a vocabulary of {vocab_size} tokens cannot be trained; give from {smallest} to {largest}: it \
         has every byte, inside a word and at its end, and two special tokens"
    )]
    VocabularySize {
        vocab_size: usize,
        smallest: usize,
        largest: usize,
    },
    #[error("the tokenizer cannot be trained")]
    Train(#[source] LastCause<tokenizers::Error>),
}

/// Why a text has no ids.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the tokenizer does not encode the text")]
    Tokenizer(#[source] LastCause<tokenizers::Error>),
    #[error(
        "the tokenizer adds {added} tokens to every text, but the context length is {context_length}; raise model.text.context_length or use another tokenizer"
    )]
    NoRoom { added: usize, context_length: usize },
}
