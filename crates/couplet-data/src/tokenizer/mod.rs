//! Text to token ids: CLIP's byte-pair encoding, and any `tokenizer.json`.

mod clean;
mod clip;
mod error;
mod ftfy;
mod html;
mod hugging_face;
mod tables;
mod train;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use tokenizers::PostProcessor;
use tokenizers::utils::truncation::TruncationDirection;

pub use clean::Clean;
pub use error::TokenizerError;
pub use train::{TrainOptions, train};

use clip::ClipBpe;

/// Encodes texts as token ids. Cheap to share behind an `Arc`, also between threads.
pub struct Tokenizer {
    model: Model,
    clean: Clean,
    vocab_size: usize,
    pad_id: Option<u32>,
}

enum Model {
    Clip(Box<ClipBpe>),
    File {
        path: PathBuf,
        tokenizer: Box<tokenizers::Tokenizer>,
    },
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("file", &self.file())
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// CLIP's tokenizer with its vocabulary of 49,408 tokens, built once per process.
    /// Source: open_clip `SimpleTokenizer`.
    ///
    /// # Panics
    /// Never: the embedded vocabulary is valid, as tests check.
    pub fn clip() -> Arc<Self> {
        static CLIP: OnceLock<Arc<Tokenizer>> = OnceLock::new();
        let clip = CLIP.get_or_init(|| {
            let bpe = ClipBpe::build().expect("the embedded CLIP vocabulary is valid");
            Arc::new(Self {
                vocab_size: bpe.vocab_size(),
                model: Model::Clip(Box::new(bpe)),
                clean: Clean::Lower,
                pad_id: Some(clip::PAD_ID),
            })
        });
        clip.clone()
    }

    /// A tokenizer of Hugging Face's `tokenizers`.
    /// - path: a `tokenizer.json`; a `tokenizer_config.json` next to it names the padding token.
    /// - clean: how texts are cleaned before encoding.
    ///
    /// # Errors
    /// If the file cannot be read or is not a tokenizer.
    pub fn from_file(path: &Path, clean: Clean) -> Result<Self, TokenizerError> {
        let tokenizer = hugging_face::read(path)?;
        Ok(Self {
            vocab_size: tokenizer.get_vocab_size(true),
            pad_id: hugging_face::pad_id(&tokenizer, path),
            model: Model::File {
                path: path.to_path_buf(),
                tokenizer: Box::new(tokenizer),
            },
            clean,
        })
    }

    /// The file it was read from; `None` for CLIP's.
    pub fn file(&self) -> Option<&Path> {
        match &self.model {
            Model::Clip(_) => None,
            Model::File { path, .. } => Some(path),
        }
    }

    /// How texts are cleaned before they are split.
    pub fn clean(&self) -> Clean {
        self.clean
    }

    /// The number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id that pads a text to the context length, if the tokenizer names one.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }

    /// The ids of `text` with the start and end tokens that the tokenizer adds, at most `context_length`
    /// of them: a longer text is truncated, but keeps its end token.
    ///
    /// # Panics
    /// If `context_length` is less than 2.
    pub fn encode(&self, text: &str, context_length: usize) -> Vec<u32> {
        assert!(context_length >= 2, "no room for start and end tokens");
        let text = self.clean.apply(text);
        let tokenizer = match &self.model {
            Model::Clip(bpe) => return bpe.encode(&text, context_length),
            Model::File { tokenizer, .. } => tokenizer,
        };
        // A tokenizer that fails to encode one text fails for every text.
        let Ok(mut encoding) = tokenizer.encode_fast(text.as_ref(), false) else {
            return Vec::new();
        };
        let added = tokenizer
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(false));
        encoding.truncate(
            context_length.saturating_sub(added),
            0,
            TruncationDirection::Right,
        );
        match tokenizer.post_process(encoding, None, true) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            Err(_) => Vec::new(),
        }
    }

    /// As [`Self::encode`], for many texts, in rayon's current pool.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        context_length: usize,
    ) -> Vec<Vec<u32>> {
        texts
            .par_iter()
            .map(|text| self.encode(text.as_ref(), context_length))
            .collect()
    }

    /// Writes the files from which transformers and open_clip build this tokenizer: `tokenizer.json`,
    /// `tokenizer_config.json` and, for CLIP's tokenizer, `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_hugging_face(
        &self,
        folder: &Path,
        context_length: usize,
    ) -> Result<(), TokenizerError> {
        match &self.model {
            Model::Clip(_) => hugging_face::save_clip(folder, context_length),
            Model::File { path, tokenizer } => {
                hugging_face::copy(path, tokenizer, folder, context_length)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids printed by open_clip 3.3.0's `SimpleTokenizer`, without padding; the fixture is written by
    /// `tests/fixtures/make_tokens.py`.
    #[test]
    fn ids_are_the_same_as_open_clips() {
        let fixture = include_str!("../../tests/fixtures/tokens.json");
        let cases: Vec<(String, usize, Vec<u32>)> = serde_json::from_str(fixture).unwrap();
        assert!(cases.len() > 20);
        for (text, context_length, ids) in cases {
            let ours = Tokenizer::clip().encode(&text, context_length);
            assert_eq!(ours, ids, "{text:?}");
        }
    }

    #[test]
    fn the_vocabulary_has_the_size_of_clips() {
        assert_eq!(Tokenizer::clip().vocab_size(), 49_408);
    }

    #[test]
    fn a_written_clip_tokenizer_reads_back_with_the_same_ids() {
        let folder = tempfile::tempdir().unwrap();
        let clip = Tokenizer::clip();
        clip.save_hugging_face(folder.path(), 77).unwrap();
        let file = folder.path().join("tokenizer.json");
        let read = Tokenizer::from_file(&file, Clean::None).unwrap();
        assert_eq!(read.vocab_size(), 49_408);
        assert_eq!(read.pad_id(), Some(49_407));
        for text in ["a photo of a cat", "Two  DOGS, it's 3 o'clock!", "日本語"] {
            assert_eq!(read.encode(text, 77), clip.encode(text, 77), "{text}");
        }
        assert_eq!(read.encode("a b c d e f", 5), clip.encode("a b c d e f", 5));
    }

    #[test]
    fn the_error_for_an_invalid_tokenizer_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        std::fs::write(&file, "{}").unwrap();
        let error = Tokenizer::from_file(&file, Clean::None).unwrap_err();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
