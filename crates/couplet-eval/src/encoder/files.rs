//! The files of runs and checkpoints that determine which model to open.

use std::path::{Path, PathBuf};
use std::{fs, io};

use burn::tensor::Device;
use couplet_model::weights::WeightsError;
use couplet_model::{ClassifierHead, Difference, FolderError, Manifest, ManifestError, open_clip};

use super::chosen::{Choice, ChosenCheckpoint, ChosenModel};
use super::error::OpenError;
use super::run_folder::{Pointer, newest_whole, read_pointer};
#[cfg(not(feature = "hub"))]
use crate::no_pretrained::{name_hint, named_model};
#[cfg(feature = "hub")]
use crate::pretrained::{name_hint, named_model};

/// Files in a run's folder that name one of its checkpoints, in order of preference.
const POINTERS: [(&str, Choice); 2] = [("best", Choice::Best), ("latest", Choice::Latest)];

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
/// was evaluated with; the downloaded files of a model's name; any other path is returned unchanged. If the run's files name no checkpoint,
/// the newest whole one is taken, with a warning.
///
/// # Errors
/// If one of the files that name a checkpoint or its weights cannot be read, or names no weights.
pub fn find_model(path: &Path) -> Result<PathBuf, OpenError> {
    Ok(choose_model(path)?.path)
}

/// As [`find_model`], with the reason.
///
/// # Errors
/// As [`find_model`].
pub fn choose_model(path: &Path) -> Result<ChosenModel, OpenError> {
    if let Some(name) = path.to_str().filter(|_| !path.exists()) {
        if let Some(path) = named_model(name)? {
            return Ok(ChosenModel {
                path,
                checkpoint: None,
            });
        }
        if let Some(hint) = name_hint(name) {
            let name = name.to_string();
            return Err(OpenError::Unknown { name, hint });
        }
    }
    let found = find_checkpoint(path)?;
    let folder = found.as_ref().map_or(path, |(folder, _)| folder);
    Ok(ChosenModel {
        path: weights_of(folder)?,
        checkpoint: found.map(|(folder, why)| ChosenCheckpoint::new(&folder, why)),
    })
}

/// The weights that a checkpoint was evaluated with; any other folder is returned unchanged.
fn weights_of(folder: &Path) -> Result<PathBuf, OpenError> {
    let file = folder.join(EVAL_WEIGHTS_FILE);
    if !file.is_file() {
        return Ok(folder.to_path_buf());
    }
    let bytes = fs::read(&file).map_err(io_at(&file))?;
    check_listed(folder, &file, &bytes)?;
    let name = String::from_utf8_lossy(&bytes);
    match name.trim() {
        name @ (EMA_WEIGHTS_FILE | open_clip::WEIGHTS_FILE) => Ok(folder.join(name)),
        name => Err(OpenError::NamesNoWeights {
            path: file,
            name: name.escape_debug().to_string(),
        }),
    }
}

/// The checkpoint of a run that `best` or else `latest` names, or the newest whole one.
/// - returns `None` if `run` is not the folder of a run.
fn find_checkpoint(run: &Path) -> Result<Option<(PathBuf, Choice)>, OpenError> {
    let mut broken = Vec::new();
    let mut found = None;
    for (name, choice) in POINTERS {
        match read_pointer(run, name).map_err(io_at(&run.join(name)))? {
            Pointer::Absent => {}
            Pointer::Broken(message) => broken.push(format!("`{name}` {message}")),
            Pointer::To(folder) => {
                found = Some((folder, choice));
                break;
            }
        }
    }
    if found.is_none() {
        found = newest_whole(run).map(|folder| (folder, Choice::NewestWhole));
        if broken.is_empty() {
            broken.push("there is neither `best` nor `latest`".to_string());
        }
    }
    if let Some((found, _)) = &found
        && !broken.is_empty()
    {
        let (run, why) = (run.display(), broken.join(", "));
        tracing::warn!("{run}: {why}; opening {}", found.display());
    }
    Ok(found)
}

/// Checks the file that names the weights against the checkpoint's manifest: one that was added
/// would open other weights.
fn check_listed(folder: &Path, file: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let manifest = Manifest::read(folder).map_err(WeightsError::from);
    let manifest = manifest.map_err(FolderError::from)?;
    let is_added = |manifest: &Manifest| !manifest.files.contains_key(EVAL_WEIGHTS_FILE);
    let checked = if manifest.as_ref().is_some_and(is_added) {
        Err(ManifestError::Differs {
            path: file.to_path_buf(),
            difference: Difference::Added,
        })
    } else {
        Manifest::check_bytes(file, bytes)
    };
    let checked = checked.map_err(WeightsError::from);
    Ok(checked.map_err(FolderError::from)?)
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
    let path = path.to_path_buf();
    move |source| OpenError::Io {
        path: path.clone(),
        source,
    }
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
