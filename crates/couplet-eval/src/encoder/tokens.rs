//! Tokenization of a model's texts.

use std::sync::Arc;

use couplet_data::loader::TokenOptions;
use couplet_data::{Clean, Tokenizer, TokenizerError};
use couplet_model::{ModelSpec, TokenizerSpec};

use super::error::{MissingTokenizer, OpenError};

/// How the text tower of this spec expects a tokenizer's ids.
///
/// # Errors
/// If the tokenizer has more ids than the tower's vocabulary.
pub fn token_options(
    spec: &ModelSpec,
    tokenizer: Arc<Tokenizer>,
) -> Result<TokenOptions, OpenError> {
    let text = &spec.text;
    if tokenizer.vocab_size() > text.vocab_size {
        return Err(OpenError::Vocabulary {
            tokenizer: tokenizer.vocab_size(),
            vocab_size: text.vocab_size,
        });
    }
    // A Hugging Face tokenizer pads with its own token, whatever the config says.
    let own = tokenizer.file().and_then(|_| tokenizer.pad_id());
    Ok(TokenOptions {
        pad_id: own.unwrap_or(text.pad_id),
        context_length: text.context_length,
        cut: text.reads_no_padding(),
        tokenizer,
    })
}

/// Opens the tokenizer that a model names. The inner error means that it is not on disk.
///
/// # Errors
/// If it is on disk but cannot be read.
pub fn open_tokenizer(
    spec: &TokenizerSpec,
) -> Result<Result<Arc<Tokenizer>, MissingTokenizer>, TokenizerError> {
    match spec {
        TokenizerSpec::Clip => Ok(Ok(Tokenizer::clip())),
        TokenizerSpec::File { path, clean } => {
            let clean = Clean::from_name(clean).unwrap_or_default();
            Ok(Ok(Arc::new(Tokenizer::from_file(path, clean)?)))
        }
        TokenizerSpec::Missing { name } => Ok(Err(MissingTokenizer { name: name.clone() })),
    }
}
