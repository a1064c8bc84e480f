//! The files of a run and of a checkpoint that say which model to open.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use couplet_model::{ClassifierHead, FolderError};

use super::error::OpenError;

/// A run's pointers to its checkpoints, the preferred one first.
const POINTERS: [&str; 2] = ["best", "latest"];

/// Averaged weights, next to a checkpoint's own.
pub const EMA_WEIGHTS_FILE: &str = "open_clip_model_ema.safetensors";

/// A fine-tuned model's classifier, next to its weights, and that of averaged weights.
pub const HEAD_FILE: &str = "head.safetensors";
pub const EMA_HEAD_FILE: &str = "head_ema.safetensors";

/// Names which of a checkpoint's weights its evaluations used, where there are two.
pub const EVAL_WEIGHTS_FILE: &str = "eval_weights";

/// The classification head of a fine-tuned model.
#[derive(Debug, Clone)]
pub struct Head {
    pub classifier: ClassifierHead,
    pub class_names: Vec<String>,
}

/// What `path` stands for: a run's folder for one of its checkpoints, anything else for
/// itself.
///
/// # Errors
/// If a run's pointer cannot be read.
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
    let named = path.join(EVAL_WEIGHTS_FILE);
    if !named.is_file() {
        return Ok(path);
    }
    let name = fs::read_to_string(&named).map_err(|source| OpenError::Io {
        path: named,
        source,
    })?;
    Ok(path.join(name.trim()))
}

/// The classifier that belongs to a file of weights, if it has one.
pub(super) fn head_of(weights: &Path, device: &Device) -> Result<Option<Head>, FolderError> {
    let is_average = weights.file_name() == Some(EMA_WEIGHTS_FILE.as_ref());
    let name = if is_average { EMA_HEAD_FILE } else { HEAD_FILE };
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
