//! A `tokenizer.json` with the files next to it: the ids that transformers gives with
//! `padding="max_length", truncation=True`. Source: transformers 5 `TokenizersBackend`.

mod named;
mod screen;
pub(super) mod sentencepiece;

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;
use tokenizers::utils::padding::PaddingDirection;
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{AddedToken, PaddingParams, PostProcessor};

use named::content;

use super::error::{EncodeError, TokenizerError};
use super::hugging_face::{CONFIG_FILE, SPECIAL_TOKENS_FILE};
use crate::error::LastCause;
use crate::panics::catch_unwinding;

/// The largest known file, of 256,000 tokens, has 34 MB.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// What BERT's tokenizers call their separator.
const BERT_SEPARATOR: &str = "[SEP]";
const NAMED_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// How a `tokenizer.json` is used.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileOptions {
    /// Replaces separators by id 0. Source: open_clip `HFTokenizer`, for CLIPA's models.
    pub strip_sep_token: bool,
}

pub(super) struct FileTokenizer {
    pub path: PathBuf,
    pub inner: tokenizers::Tokenizer,
    pub options: FileOptions,
    /// One more than the highest id.
    pub vocab_size: usize,
    pub pad_id: Option<u32>,
    pub pads_left: bool,
    truncation: TruncationDirection,
    /// The number of tokens that are added to every text.
    added: usize,
    /// The id that is replaced by 0.
    stripped: Option<u32>,
}

impl FileTokenizer {
    pub fn open(path: &Path, options: FileOptions) -> Result<Self, TokenizerError> {
        let text = read_json(path)?;
        let format = |source| TokenizerError::Format {
            path: path.to_path_buf(),
            source: LastCause(source),
        };
        screen::check(&text).map_err(|problem| format(problem.into()))?;
        let mut inner: tokenizers::Tokenizer = caught(|| text.parse()).map_err(format)?;
        let files = Files::read(path)?;
        // Padding and truncation are up to the model, not the file.
        let padding = inner.get_padding().cloned();
        let truncation = inner.get_truncation().map(|params| params.direction);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(format)?;
        caught(|| files.add_special_tokens(&mut inner)).map_err(format)?;
        let stripped = if options.strip_sep_token {
            Some(files.separator(&inner, path)?)
        } else {
            None
        };
        let pad_id = files.pad_id(&inner, padding.as_ref());
        let vocab = inner.get_vocab(true);
        let highest = vocab.values().copied().chain(pad_id).max();
        let mut tokenizer = Self {
            pad_id,
            pads_left: files.is_left("padding_side").unwrap_or_else(|| {
                padding.is_some_and(|padding| matches!(padding.direction, PaddingDirection::Left))
            }),
            truncation: match files.is_left("truncation_side") {
                Some(true) => TruncationDirection::Left,
                Some(false) => TruncationDirection::Right,
                None => truncation.unwrap_or(TruncationDirection::Right),
            },
            added: caught(|| {
                let processor = inner.get_post_processor();
                Ok(processor.map_or(0, |processor| processor.added_tokens(false)))
            })
            .map_err(format)?,
            path: path.to_path_buf(),
            inner,
            options,
            vocab_size: highest.map_or(0, |highest| highest as usize + 1),
            stripped,
        };
        // What every text needs, and ids that only the post-processor names.
        let added = tokenizer.encode("", usize::MAX);
        let added = added.map_err(|source| TokenizerError::Unusable {
            path: path.to_path_buf(),
            source,
        })?;
        let highest = added
            .into_iter()
            .max()
            .map_or(0, |highest| highest as usize + 1);
        tokenizer.vocab_size = tokenizer.vocab_size.max(highest);
        Ok(tokenizer)
    }

    /// The ids of the tokens that are added before and after every text, if there are any.
    pub fn start_and_end(&self) -> (Option<u32>, Option<u32>) {
        let encode = || self.inner.encode_fast("1", true);
        let Ok(encoding) = caught(encode) else {
            return (None, None);
        };
        let (ids, mask) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let added = |at: Option<usize>| {
            let at = at.filter(|at| mask.get(*at) == Some(&1))?;
            ids.get(at).copied()
        };
        (added(Some(0)), added(ids.len().checked_sub(1)))
    }

    /// The ids of a text, at most `context_length`, without padding.
    pub fn encode(&self, text: &str, context_length: usize) -> Result<Vec<u32>, EncodeError> {
        let room = (context_length.checked_sub(self.added)).ok_or(EncodeError::NoRoom {
            added: self.added,
            context_length,
        })?;
        let encode = || {
            let mut encoding = self.inner.encode_fast(text, false)?;
            encoding.truncate(room, 0, self.truncation);
            // What was cut off would be processed too.
            encoding.take_overflowing();
            self.inner.post_process(encoding, None, true)
        };
        let encoding =
            caught(encode).map_err(|source| EncodeError::Tokenizer(LastCause(source)))?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() > context_length {
            return Err(EncodeError::NoRoom {
                added: ids.len(),
                context_length,
            });
        }
        for id in &mut ids {
            if Some(*id) == self.stripped {
                *id = 0;
            }
        }
        Ok(ids)
    }
}

/// Runs code of the crate `tokenizers`, which panics on some invalid files and texts.
fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwinding(work).unwrap_or_else(|panic| Err(panic.into()))
}

fn read_bounded(path: &Path) -> Result<String, TokenizerError> {
    let text = String::from_utf8(read_bytes(path)?);
    text.map_err(|error| TokenizerError::Read {
        path: path.to_path_buf(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let read = |source| TokenizerError::Read {
        path: path.to_path_buf(),
        source,
    };
    let bytes = fs::metadata(path).map_err(read)?;
    if !bytes.is_file() || bytes.len() > MAX_FILE_BYTES {
        return Err(TokenizerError::NoTokenizer {
            path: path.to_path_buf(),
            most_bytes: MAX_FILE_BYTES,
        });
    }
    fs::read(path).map_err(read)
}

/// A `tokenizer.json`, or what SentencePiece's model is as one.
fn read_json(path: &Path) -> Result<String, TokenizerError> {
    if path.file_name() != Some(sentencepiece::FILE.as_ref()) {
        return read_bounded(path);
    }
    let bytes = read_bytes(path)?;
    let config = Files::read(path)?.config;
    sentencepiece::to_json(&bytes, &config).map_err(|problem| TokenizerError::Format {
        path: path.to_path_buf(),
        source: LastCause(problem.into()),
    })
}

/// The files next to a `tokenizer.json`.
struct Files {
    config: Value,
    special_tokens: Value,
}

impl Files {
    fn read(path: &Path) -> Result<Self, TokenizerError> {
        let read = |name| {
            let path = path.with_file_name(name);
            if !path.is_file() {
                return Ok(Value::Null);
            }
            serde_json::from_str(&read_bounded(&path)?).map_err(|source| TokenizerError::Json {
                path,
                source: LastCause(source),
            })
        };
        Ok(Self {
            config: read(CONFIG_FILE)?,
            special_tokens: read(SPECIAL_TOKENS_FILE)?,
        })
    }

    /// The text of a named token.
    fn token(&self, key: &str) -> Option<&str> {
        [&self.config, &self.special_tokens]
            .into_iter()
            .find_map(|file| content(file.get(key)?))
    }

    fn is_left(&self, key: &str) -> Option<bool> {
        Some(self.config.get(key)?.as_str()? == "left")
    }

    fn pad_id(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        padding: Option<&PaddingParams>,
    ) -> Option<u32> {
        if let Some(token) = self.token("pad_token") {
            return tokenizer.token_to_id(token);
        }
        let padding = padding?;
        Some((tokenizer.token_to_id(&padding.pad_token)).unwrap_or(padding.pad_id))
    }

    fn separator(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        path: &Path,
    ) -> Result<u32, TokenizerError> {
        let token = self.token("sep_token").unwrap_or(BERT_SEPARATOR);
        tokenizer
            .token_to_id(token)
            .ok_or_else(|| TokenizerError::NoSeparator {
                path: path.to_path_buf(),
            })
    }

    /// Tells the tokenizer which of its tokens are special. (transformers ignores `add_bos_token` and
    /// `add_eos_token` next to a `tokenizer.json`.)
    fn add_special_tokens(&self, tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
        let named = NAMED_TOKENS.iter().filter_map(|key| self.token(key));
        let more = ["additional_special_tokens", "extra_special_tokens"]
            .into_iter()
            .filter_map(|key| self.config.get(key)?.as_array())
            .flatten()
            .filter_map(content);
        // One that has no id yet would get one that no model knows.
        let known: Vec<AddedToken> = named
            .chain(more)
            .filter(|token| tokenizer.token_to_id(token).is_some())
            .map(|token| AddedToken::from(token, true).normalized(false))
            .collect();
        tokenizer.add_special_tokens(known)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
