//! A model on disk before its weights are read. Every layout of weights describes itself so.

use std::path::{Path, PathBuf};

use crate::spec::{ModelSpec, PreprocessSpec};

/// The tokenizer's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The number of tokens in CLIP's vocabulary.
const CLIP_VOCABULARY: usize = 49_408;

/// A model on disk: everything but its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSource {
    pub spec: ModelSpec,
    pub preprocess: PreprocessSpec,
    pub tokenizer: TokenizerSpec,
    pub layout: Layout,
    /// The weights file, or the index of several.
    pub weights: PathBuf,
}

/// A model's tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerSpec {
    /// CLIP's, which is built in.
    Clip,
    /// A `tokenizer.json`, and how a text is cleaned before: open_clip's `none`, `whitespace`,
    /// `lower` or `canonicalize`.
    File { path: PathBuf, clean: String },
    /// One that is not on disk; texts cannot be encoded.
    Missing { name: String },
}

/// The names and shapes of a model's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    OpenClip,
    HuggingFace,
    OpenAi,
}

/// A Hugging Face tokenizer that a config names in place of CLIP's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTokenizer {
    /// Its name on the hub. open_clip prefers the files next to the config.
    pub name: String,
    /// How a text is cleaned before: `none`, `whitespace`, `lower` or `canonicalize`.
    pub clean: Option<String>,
}

/// The tokenizer of a folder: its `tokenizer.json` unless the vocabulary is CLIP's.
/// - foreign: the config's, if it is not CLIP's.
/// - clean: how texts are cleaned if the folder does not say.
pub(crate) fn find_tokenizer(
    folder: &Path,
    spec: &ModelSpec,
    foreign: Option<ForeignTokenizer>,
    clean: &str,
) -> TokenizerSpec {
    let path = folder.join(TOKENIZER_FILE);
    // A larger vocabulary has unused ids after all of CLIP's.
    let is_clips = foreign.is_none()
        && (spec.text.vocab_size == CLIP_VOCABULARY
            || (spec.text.vocab_size > CLIP_VOCABULARY && !path.is_file()));
    if is_clips {
        return TokenizerSpec::Clip;
    }
    let (name, own_clean) =
        foreign.map_or((None, None), |foreign| (Some(foreign.name), foreign.clean));
    if path.is_file() {
        return TokenizerSpec::File {
            path,
            clean: own_clean.unwrap_or_else(|| clean.to_string()),
        };
    }
    TokenizerSpec::Missing {
        name: name.unwrap_or_else(|| TOKENIZER_FILE.to_string()),
    }
}
