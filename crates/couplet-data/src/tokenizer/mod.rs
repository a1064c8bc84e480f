//! Text to token ids: CLIP's byte-pair encoding, and any `tokenizer.json`.

mod clean;
mod clip;
mod error;
mod file;
mod ftfy;
mod html;
mod hugging_face;
mod tables;
mod train;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

pub use clean::Clean;
pub use error::{EncodeError, TokenizerError};
pub use file::FileOptions;
pub use train::{TrainOptions, train};

use clip::ClipBpe;
use file::FileTokenizer;

/// Encodes texts as token ids. Cheap to share behind an `Arc`, also between threads.
pub struct Tokenizer {
    model: Model,
    clean: Clean,
}

enum Model {
    Clip(Arc<ClipBpe>),
    File(Box<FileTokenizer>),
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
                model: Model::Clip(Arc::new(bpe)),
                clean: Clean::Lower,
            })
        });
        clip.clone()
    }

    /// As [`Self::clip`], for texts that are cleaned in another way.
    #[must_use]
    pub fn clip_with(clean: Clean) -> Arc<Self> {
        let clip = Self::clip();
        match &clip.model {
            Model::Clip(bpe) if clean != clip.clean => Arc::new(Self {
                model: Model::Clip(bpe.clone()),
                clean,
            }),
            _ => clip,
        }
    }

    /// A tokenizer of Hugging Face's `tokenizers`.
    /// - path: a `tokenizer.json`; a `tokenizer_config.json` next to it names special tokens, and the
    ///   sides where texts are padded and truncated.
    /// - clean: how texts are cleaned before encoding.
    ///
    /// # Errors
    /// If the file cannot be read or is not a tokenizer.
    pub fn from_file(path: &Path, clean: Clean) -> Result<Self, TokenizerError> {
        Self::from_file_with(path, clean, FileOptions::default())
    }

    /// As [`Self::from_file`], with options.
    ///
    /// # Errors
    /// As [`Self::from_file`], and if the file lacks what an option needs.
    pub fn from_file_with(
        path: &Path,
        clean: Clean,
        options: FileOptions,
    ) -> Result<Self, TokenizerError> {
        Ok(Self {
            model: Model::File(Box::new(FileTokenizer::open(path, options)?)),
            clean,
        })
    }

    /// The file it was read from; `None` for CLIP's.
    pub fn file(&self) -> Option<&Path> {
        match &self.model {
            Model::Clip(_) => None,
            Model::File(file) => Some(&file.path),
        }
    }

    /// How texts are cleaned before they are split.
    pub fn clean(&self) -> Clean {
        self.clean
    }

    /// The number of token ids: one more than the highest.
    pub fn vocab_size(&self) -> usize {
        match &self.model {
            Model::Clip(bpe) => bpe.vocab_size(),
            Model::File(file) => file.vocab_size,
        }
    }

    /// The id that pads a text to the context length, if the tokenizer names one.
    pub fn pad_id(&self) -> Option<u32> {
        match &self.model {
            Model::Clip(_) => Some(clip::PAD_ID),
            Model::File(file) => file.pad_id,
        }
    }

    /// Whether texts are padded at their start.
    pub fn pads_left(&self) -> bool {
        match &self.model {
            Model::Clip(_) => false,
            Model::File(file) => file.pads_left,
        }
    }

    /// Whether separators become id 0.
    pub fn strips_sep_token(&self) -> bool {
        match &self.model {
            Model::Clip(_) => false,
            Model::File(file) => file.options.strip_sep_token,
        }
    }

    /// The ids of the tokens that are added before and after every text, if there are any.
    pub fn start_and_end(&self) -> (Option<u32>, Option<u32>) {
        match &self.model {
            Model::Clip(bpe) => (Some(bpe.start), Some(bpe.end)),
            Model::File(file) => file.start_and_end(),
        }
    }

    /// The ids of `text` with the start and end tokens that the tokenizer adds, at most `context_length`
    /// of them: a longer text is truncated, but keeps its end token.
    ///
    /// # Errors
    /// If the tokenizer has no ids for the text, or its own tokens leave no room for it.
    ///
    /// # Panics
    /// If `context_length` is less than 2.
    pub fn encode(&self, text: &str, context_length: usize) -> Result<Vec<u32>, EncodeError> {
        assert!(context_length >= 2, "no room for start and end tokens");
        let text = self.clean.apply(text);
        match &self.model {
            Model::Clip(bpe) => Ok(bpe.encode(&text, context_length)),
            Model::File(file) => file.encode(&text, context_length),
        }
    }

    /// As [`Self::encode`], for many texts, in rayon's current pool.
    ///
    /// # Errors
    /// As [`Self::encode`], with the number of a text that has no ids.
    ///
    /// # Panics
    /// As [`Self::encode`].
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        context_length: usize,
    ) -> Result<Vec<Vec<u32>>, (usize, EncodeError)> {
        texts
            .par_iter()
            .enumerate()
            .map(|(at, text)| {
                let ids = self.encode(text.as_ref(), context_length);
                ids.map_err(|error| (at, error))
            })
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
            Model::File(file) => {
                hugging_face::copy(&file.path, &file.inner, file.pad_id, folder, context_length)
            }
        }
    }

    /// As [`Self::save_hugging_face`], for transformers, which does not clean texts: what is done to them before is
    /// written into `tokenizer.json`, all but the repair of encodings and of HTML entities.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_for_transformers(
        &self,
        folder: &Path,
        context_length: usize,
    ) -> Result<(), TokenizerError> {
        self.save_hugging_face(folder, context_length)?;
        match &self.model {
            Model::Clip(_) => Ok(()),
            Model::File(_) => hugging_face::write_cleaning(folder, self.clean),
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
            let ours = Tokenizer::clip().encode(&text, context_length).unwrap();
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
            let ids = read.encode(text, 77).unwrap();
            assert_eq!(ids, clip.encode(text, 77).unwrap(), "{text}");
        }
        let cut = read.encode("a b c d e f", 5).unwrap();
        assert_eq!(cut, clip.encode("a b c d e f", 5).unwrap());
        assert_eq!(read.start_and_end(), (Some(49_406), Some(49_407)));
        assert_eq!(clip.start_and_end(), (Some(49_406), Some(49_407)));
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
