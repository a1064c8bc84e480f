//! A model on disk before its weights are read. Every layout of weights describes itself so.

use std::collections::HashMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::spec::{ModelSpec, PreprocessSpec};

/// The tokenizer's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// SentencePiece's model, which stands for it where there is none.
const SENTENCEPIECE_FILE: &str = "spiece.model";
/// The number of tokens in CLIP's vocabulary.
const CLIP_VOCABULARY: usize = 49_408;
/// Tokens from all over it.
const CLIP_TOKENS: [(&str, usize); 7] = [
    ("!", 0),
    ("!</w>", 256),
    ("the</w>", 518),
    ("photo</w>", 1125),
    ("cat</w>", 2368),
    ("jekyll</w>", 49_405),
    ("<|endoftext|>", 49_407),
];
/// How open_clip cleans a text for CLIP's tokenizer and for another unless the config says.
const CLIP_CLEAN: &str = "lower";
const HUGGING_FACE_CLEAN: &str = "whitespace";

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

/// A model's tokenizer. `clean` says how a text is cleaned before: open_clip's `whitespace`, `lower` or
/// `canonicalize`, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerSpec {
    /// CLIP's, which is built in.
    Clip { clean: String },
    /// A `tokenizer.json`.
    File {
        path: PathBuf,
        clean: String,
        /// Whether separators become id 0, as for CLIPA's models.
        strip_sep_token: bool,
    },
    /// One that is not on disk; texts cannot be encoded.
    Missing { name: String },
}

impl TokenizerSpec {
    /// CLIP's, as open_clip cleans its texts by default.
    pub fn clip() -> Self {
        Self::Clip {
            clean: CLIP_CLEAN.into(),
        }
    }
}

/// The names and shapes of a model's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    OpenClip,
    HuggingFace,
    OpenAi,
}

/// The tokenizer as an open_clip config describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerCfg {
    /// The name of a Hugging Face tokenizer. open_clip prefers the files next to the config. Without a
    /// name it is CLIP's.
    pub hugging_face: Option<String>,
    /// How a text is cleaned before: `whitespace`, `lower` or `canonicalize`.
    pub clean: Option<String>,
    /// Whether separators become id 0.
    pub strip_sep_token: bool,
}

/// The tokenizer's file in a model folder, which may be missing.
fn tokenizer_file(folder: &Path) -> PathBuf {
    let [json, sentencepiece] = [TOKENIZER_FILE, SENTENCEPIECE_FILE].map(|name| folder.join(name));
    if !json.is_file() && sentencepiece.is_file() {
        sentencepiece
    } else {
        json
    }
}

/// The tokenizer of an open_clip folder: its `tokenizer.json` unless the vocabulary is CLIP's.
pub(crate) fn find_tokenizer(folder: &Path, spec: &ModelSpec, cfg: TokenizerCfg) -> TokenizerSpec {
    let path = tokenizer_file(folder);
    let clean = |default: &str| cfg.clean.clone().unwrap_or_else(|| default.into());
    // A larger vocabulary has unused ids after all of CLIP's.
    let is_clips = cfg.hugging_face.is_none()
        && spec.text.is_clip()
        && (spec.text.vocab_size == CLIP_VOCABULARY
            || (spec.text.vocab_size > CLIP_VOCABULARY && !path.is_file()));
    if is_clips {
        return TokenizerSpec::Clip {
            clean: clean(CLIP_CLEAN),
        };
    }
    if path.is_file() {
        return TokenizerSpec::File {
            path,
            clean: clean(HUGGING_FACE_CLEAN),
            strip_sep_token: cfg.strip_sep_token,
        };
    }
    TokenizerSpec::Missing {
        name: (cfg.hugging_face).unwrap_or_else(|| TOKENIZER_FILE.to_string()),
    }
}

/// The tokenizer of a Hugging Face folder: its `tokenizer.json` unless that is CLIP's.
pub(crate) fn find_hugging_face_tokenizer(folder: &Path, spec: &ModelSpec) -> TokenizerSpec {
    let path = tokenizer_file(folder);
    let is_clips = spec.text.causal && spec.text.vocab_size >= CLIP_VOCABULARY;
    if is_clips && (!path.is_file() || is_clips_file(&path)) {
        return TokenizerSpec::clip();
    }
    if path.is_file() {
        return TokenizerSpec::File {
            path,
            clean: "none".into(),
            strip_sep_token: false,
        };
    }
    TokenizerSpec::Missing {
        name: TOKENIZER_FILE.to_string(),
    }
}

/// The tokenizer of a folder with a text encoder of Hugging Face's, whose texts are cleaned as open_clip cleans them.
pub(crate) fn find_encoder_tokenizer(folder: &Path) -> TokenizerSpec {
    let path = tokenizer_file(folder);
    if path.is_file() {
        return TokenizerSpec::File {
            path,
            clean: HUGGING_FACE_CLEAN.into(),
            strip_sep_token: false,
        };
    }
    TokenizerSpec::Missing {
        name: path.display().to_string(),
    }
}

/// Whether a `tokenizer.json` has CLIP's vocabulary. One that cannot be read has not; opening it says
/// why.
fn is_clips_file(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        vocab: HashMap<String, usize>,
    }
    let file = fs::File::open(path).ok().map(BufReader::new);
    let file: Option<File> = file.and_then(|file| serde_json::from_reader(file).ok());
    file.is_some_and(
        |File {
             model: Model { vocab },
         }| {
            let mut known = CLIP_TOKENS.iter();
            vocab.len() == CLIP_VOCABULARY && known.all(|(token, id)| vocab.get(*token) == Some(id))
        },
    )
}
