//! The files of runs and checkpoints that determine which model to open.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use couplet_model::{ClassifierHead, FolderError};

use super::error::OpenError;

/// Files in a run's folder that name one of its checkpoints, in order of preference.
const POINTERS: [&str; 2] = ["best", "latest"];

/// EMA weights, next to a checkpoint's own weights.
pub const EMA_WEIGHTS_FILE: &str = "open_clip_model_ema.safetensors";

/// A fine-tuned model's head, next to its weights, and the head of the EMA weights.
pub const HEAD_FILE: &str = "head.safetensors";
pub const EMA_HEAD_FILE: &str = "head_ema.safetensors";

/// Names the weights that a checkpoint was evaluated with, if it has more than one file of weights.
pub const EVAL_WEIGHTS_FILE: &str = "judged_weights";

/// The classification head of a fine-tuned model.
#[derive(Debug, Clone)]
pub struct Head {
    pub classifier: ClassifierHead,
    pub class_names: Vec<String>,
}

/// The model at a path: the preferred checkpoint of a run's folder, and of a checkpoint the weights it
/// was evaluated with; any other path is returned unchanged.
///
/// # Errors
/// If one of the files that name a checkpoint or its weights cannot be read.
pub fn find_model(path: &Path) -> Result<PathBuf, OpenError> {
    let mut path = path.to_path_buf();
    for pointer in POINTERS {
        let file = path.join(pointer);
        if !file.is_file() {
            continue;
        }
        let name =
            fs::read_to_string(&file).map_err(|source| OpenError::Io { path: file, source })?;
        let checkpoint = path.join("checkpoints").join(name.trim());
        if checkpoint.is_dir() {
            path = checkpoint;
            break;
        }
    }
    let eval_weights_file = path.join(EVAL_WEIGHTS_FILE);
    if !eval_weights_file.is_file() {
        return Ok(path);
    }
    let name = fs::read_to_string(&eval_weights_file).map_err(|source| OpenError::Io {
        path: eval_weights_file,
        source,
    })?;
    Ok(path.join(name.trim()))
}

/// The head that belongs to a file of weights, if there is one.
pub(super) fn head_of(weights: &Path, device: &Device) -> Result<Option<Head>, FolderError> {
    let is_ema = weights.file_name() == Some(EMA_WEIGHTS_FILE.as_ref());
    let name = if is_ema { EMA_HEAD_FILE } else { HEAD_FILE };
    let path = weights.with_file_name(name);
    if !path.is_file() {
        return Ok(None);
    }
    let (classifier, class_names) = ClassifierHead::load(&path, device)?;
    Ok(Some(Head {
        classifier,
        class_names,
    }))
}
