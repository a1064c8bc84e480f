//! Writes models for other tools.

use std::fs;
use std::path::{Path, PathBuf};

use couplet_data::loader::TokenOptions;
use couplet_data::{Clean, Tokenizer, TokenizerError};
use couplet_model::hugging_face::TokenIds;
use couplet_model::open_clip::TokenizerCfg;
use couplet_model::{FolderError, TOKENIZER_FILE, hugging_face, open_clip, weights};
use couplet_onnx::{OnnxError, OnnxOptions};

use crate::encoder::{Encoder, HEAD_FILE};

/// The layout in which a model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For `open_clip.create_model_and_transforms("local-dir:…")`.
    OpenClip,
    /// For transformers' `CLIPModel` and `CLIPProcessor`.
    HuggingFace,
    /// ONNX files for ONNX Runtime, transformers.js and optimum.
    Onnx(OnnxOptions),
}

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{}: cannot be written", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: already holds {file}; give a new or empty folder", path.display())]
    Occupied { path: PathBuf, file: String },
    #[error("the model cannot be written for open_clip: {0}")]
    NotOpenClip(String),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl Encoder {
    /// Writes config, weights, preprocessing, tokenizer and head to `folder`, which is created. Other
    /// tools ignore the head; a folder of ONNX files has none.
    ///
    /// # Errors
    /// If the format cannot represent the model (with the reasons), the folder is not empty, or a file
    /// cannot be written.
    pub fn save(&self, folder: &Path, format: Format) -> Result<(), ExportError> {
        if format == Format::OpenClip
            && let Some(obstacle) = open_clip::obstacle(self.spec(), self.preprocess())
        {
            return Err(ExportError::NotOpenClip(obstacle));
        }
        if format == Format::HuggingFace {
            hugging_face::check_writable(self.spec(), self.preprocess())?;
            if let Some(reason) = self.foreign_tokenizer().or_else(|| self.foreign_padding()) {
                return Err(hugging_face::foreign_tokenizer(reason).into());
            }
        }
        if let Format::Onnx(_) = format {
            couplet_onnx::check(self.spec(), self.preprocess())?;
            if let Some(reasons) = self.foreign_tokenizer() {
                return Err(OnnxError::NotWritable { reasons }.into());
            }
        }
        self.write(folder, format)
    }

    /// What the model's tokenizer does that transformers' does not.
    fn foreign_tokenizer(&self) -> Option<String> {
        let tokens = self.tokens().ok()?;
        foreign(&tokens.tokenizer)
    }

    /// That transformers would pad texts with another token than the model was trained with, if it reads padding.
    fn foreign_padding(&self) -> Option<String> {
        let tokens = self.tokens().ok()?;
        let is_read = tokens.tokenizer.file().is_none() && !self.spec().text.reads_no_padding();
        let (_, end) = tokens.tokenizer.start_and_end();
        let pad = tokens.pad_id;
        (is_read && end != Some(pad)).then(|| {
            format!(
                "transformers pads CLIP's texts with the end token, but the text tower reads its padding, whose id is {pad}"
            )
        })
    }

    /// Writes the model as a checkpoint is: in open_clip's layout, also where open_clip cannot build it.
    ///
    /// # Errors
    /// If the folder is not empty, or a file cannot be written.
    pub fn save_for_couplet(&self, folder: &Path) -> Result<(), ExportError> {
        self.write(folder, Format::OpenClip)
    }

    fn write(&self, folder: &Path, format: Format) -> Result<(), ExportError> {
        let io = |source| ExportError::Io {
            path: folder.to_path_buf(),
            source,
        };
        fs::create_dir_all(folder).map_err(io)?;
        if let Some(file) = fs::read_dir(folder).map_err(io)?.next() {
            return Err(ExportError::Occupied {
                path: folder.to_path_buf(),
                file: file.map_err(io)?.file_name().to_string_lossy().into_owned(),
            });
        }
        let (model, spec, preprocess) = (self.model(), self.spec(), self.preprocess());
        let tokens = self.tokens().ok();
        let own_tokenizer = tokens.filter(|tokens| tokens.tokenizer.file().is_some());
        match format {
            Format::OpenClip => {
                let cfg = tokens.map(|tokens| tokenizer_cfg(&tokens.tokenizer));
                open_clip::save(folder, model, spec, preprocess, &cfg.unwrap_or_default())?;
            }
            Format::HuggingFace => {
                let ids = tokens.map(token_ids).unwrap_or_default();
                hugging_face::save(folder, model, spec, preprocess, ids)?;
            }
            Format::Onnx(options) => {
                let ids = tokens.map(token_ids).unwrap_or_default();
                let tensors = weights::parameters(model);
                let mut spec = spec.clone();
                // A tokenizer's own padding counts, whatever the config says.
                spec.text.pad_id = tokens.map_or(spec.text.pad_id, |tokens| tokens.pad_id);
                couplet_onnx::save(folder, &tensors, &spec, preprocess, ids, options)?;
            }
        }
        let head = self.head().filter(|_| !matches!(format, Format::Onnx(_)));
        if let Some(head) = head {
            let saved = (head.classifier).save(&folder.join(HEAD_FILE), &head.class_names);
            saved.map_err(FolderError::from)?;
        }
        let wanted = match format {
            // open_clip includes CLIP's tokenizer.
            Format::OpenClip => own_tokenizer,
            Format::HuggingFace | Format::Onnx(_) => tokens,
        };
        let foreign_padding = match format {
            Format::Onnx(_) => self.foreign_padding(),
            Format::OpenClip | Format::HuggingFace => None,
        };
        if let Some(reason) = &foreign_padding {
            let folder = folder.display();
            tracing::warn!("{folder}: no tokenizer is written: {reason}");
        }
        let wanted = wanted.filter(|_| foreign_padding.is_none());
        if let Some(tokens) = wanted {
            let (tokenizer, length) = (&tokens.tokenizer, tokens.context_length);
            match format {
                Format::OpenClip => tokenizer.save_hugging_face(folder, length)?,
                Format::HuggingFace | Format::Onnx(_) => {
                    tokenizer.save_for_transformers(folder, length)?;
                }
            }
        }
        Ok(())
    }
}

/// What transformers' tokenizer would do otherwise to every text.
fn foreign(tokenizer: &Tokenizer) -> Option<String> {
    let clean = tokenizer.clean();
    // A file's tokenizer is written with what cleans the text before.
    let is_written = tokenizer.file().is_some() || clean == Clean::Lower;
    if !is_written {
        let name = clean.name().unwrap_or("none");
        return Some(format!(
            "transformers does not clean texts: clean = \"{name}\""
        ));
    }
    (tokenizer.strips_sep_token()).then(|| "transformers keeps separators: strip_sep_token".into())
}

fn token_ids(tokens: &TokenOptions) -> TokenIds {
    let tokenizer = &tokens.tokenizer;
    let (start, end) = tokenizer.start_and_end();
    TokenIds {
        start,
        end,
        highest_end: end.filter(|id| *id as usize + 1 == tokenizer.vocab_size()),
        pad: Some(match tokenizer.file() {
            // transformers pads CLIP's texts with the end token.
            None => end.unwrap_or(tokens.pad_id),
            Some(_) => tokens.pad_id,
        }),
    }
}

/// The entries in a model's config for its tokenizer.
pub fn tokenizer_cfg(tokenizer: &Tokenizer) -> TokenizerCfg {
    let is_default = tokenizer.file().is_none() && tokenizer.clean() == Clean::Lower;
    TokenizerCfg {
        // open_clip requires a name, and then reads the file next to the config.
        hugging_face: tokenizer.file().map(|_| TOKENIZER_FILE.into()),
        clean: (tokenizer.clean().name())
            .filter(|_| !is_default)
            .map(str::to_string),
        strip_sep_token: tokenizer.strips_sep_token(),
    }
}
