//! A run's folder and its checkpoints. A checkpoint is an open_clip folder with an additional
//! `trainer/`. It is written under a temporary name, synced and renamed, so every visible
//! checkpoint is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use couplet_eval::EMA_WEIGHTS_FILE;
use couplet_model::weights;
use couplet_model::{ClassifierHead, Clip};

use crate::config::RunConfig;
use crate::optimizer::ModelOptimizer;

mod contents;
mod error;
mod inputs;
mod resume;
mod state;

pub(crate) use contents::Contents;
use contents::{OPTIMIZER, STATE, TRAINER, write_checkpoint};
pub use error::CheckpointError;
use error::{io_at, sync_folder};
use inputs::Inputs;
pub use resume::AllowedChanges;
pub(crate) use state::{BestState, Counted, TrainerState};

const CHECKPOINTS: &str = "checkpoints";
const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const SKIPPED: &str = "skipped.jsonl";
const CACHE: &str = "cache";
const LATEST: &str = "latest";
const BEST: &str = "best";
const TENSORBOARD: &str = "tensorboard";
const LOCK: &str = "lock";
/// Prefix of folders that are being written or deleted.
const UNFINISHED: &str = ".unfinished-";

/// The folder of a run. While it is open, no other process can train in it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    changed: Vec<String>,
    /// Found once: it costs reading captions.
    inputs: OnceLock<Inputs>,
    /// Locked while the run lasts; the system releases it however the process ends.
    _lock: File,
}

/// A complete checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub step: u64,
}

impl Checkpoint {
    /// Loads the model with averaged weights, which a run with `[ema]` saves.
    pub(crate) fn load_ema(&self, device: &Device) -> Result<Clip, CheckpointError> {
        let path = self.path.join(EMA_WEIGHTS_FILE);
        Ok(couplet_model::load(&path, None, device)?.model)
    }

    /// Loads the classification head, which a run with `[classify]` saves.
    /// - name: `HEAD_FILE` or `EMA_HEAD_FILE`.
    pub(crate) fn load_head(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<ClassifierHead, CheckpointError> {
        Ok(ClassifierHead::load(&self.path.join(name), device)?.0)
    }
}

impl RunFolder {
    /// Creates the folder of a new run.
    ///
    /// # Errors
    /// If the folder already holds a run, is in use or cannot be written.
    pub fn create(path: &Path, config: &RunConfig) -> Result<Self, CheckpointError> {
        let folder = Self::lock(path)?;
        if folder.has_run() {
            return Err(CheckpointError::Occupied { path: path.into() });
        }
        folder.start(config)?;
        Ok(folder)
    }

    /// Creates the folder of a new run and deletes the run that it may hold.
    ///
    /// # Errors
    /// If the folder is in use or cannot be written.
    pub fn overwrite(path: &Path, config: &RunConfig) -> Result<Self, CheckpointError> {
        let folder = Self::lock(path)?;
        folder.clear()?;
        folder.start(config)?;
        Ok(folder)
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How a resumed run's config differs from the saved one, one line per key.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// The folder of TensorBoard event files.
    pub(crate) fn tensorboard(&self) -> PathBuf {
        self.path.join(TENSORBOARD)
    }

    /// The path of `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        Self::metrics_of(&self.path)
    }

    /// The path of `metrics.jsonl` of the run in folder `path`.
    pub(crate) fn metrics_of(path: &Path) -> PathBuf {
        path.join(METRICS)
    }

    /// The folder of cached features.
    pub fn cache(&self) -> PathBuf {
        self.path.join(CACHE)
    }

    /// The path of `skipped.jsonl`.
    pub fn skipped(&self) -> PathBuf {
        self.path.join(SKIPPED)
    }

    /// The checkpoint that a resumed run continues from, if there is one.
    ///
    /// # Errors
    /// If the file `latest` cannot be read or names a missing checkpoint.
    pub fn latest(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let path = self.path.join(LATEST);
        let name = match fs::read_to_string(&path) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CheckpointError::Io { path, source }),
        };
        let folder = self.path.join(CHECKPOINTS).join(name.trim());
        match step_of(&folder) {
            Some(step) if folder.is_dir() => Ok(Some(Checkpoint { path: folder, step })),
            _ => Err(CheckpointError::Damaged {
                path,
                message: format!("names {}, which is not a checkpoint", folder.display()),
                source: None,
            }),
        }
    }

    /// Writes a checkpoint, points `latest` (and `best`, if it is the best) to it, and deletes old
    /// ones.
    /// - keep: the number of latest checkpoints to keep in addition to the best.
    pub(crate) fn save(
        &self,
        contents: &Contents,
        keep: usize,
    ) -> Result<Checkpoint, CheckpointError> {
        let step = contents.state.step;
        let folder = self.checkpoint_path(step);
        let unfinished = self.unfinished(step);
        remove_folder(&unfinished)?;
        if let Err(error) = write_checkpoint(&unfinished, contents) {
            // Frees space on a full disk for the next attempt.
            remove_folder(&unfinished).ok();
            return Err(error);
        }
        let previous = self.unfinished(step).with_extension("old");
        if folder.exists() {
            fs::rename(&folder, &previous).map_err(io_at(&folder))?;
        }
        fs::rename(&unfinished, &folder).map_err(io_at(&folder))?;
        sync_folder(&self.path.join(CHECKPOINTS))?;
        remove_folder(&previous)?;
        self.write_atomic(LATEST, &format!("{}\n", name_of(step)))?;
        self.point_to_best(contents.state.best.as_ref())?;
        let best = contents.state.best.as_ref().map(|best| best.step);
        self.prune(keep, best)?;
        Ok(Checkpoint { path: folder, step })
    }

    /// Reads the trainer's state and the optimiser's moments, and deletes later checkpoints.
    pub(crate) fn load(
        &self,
        checkpoint: &Checkpoint,
        model: &Clip,
        optimizer: &mut ModelOptimizer,
    ) -> Result<TrainerState, CheckpointError> {
        let trainer = checkpoint.path.join(TRAINER);
        let state_path = trainer.join(STATE);
        let bytes = fs::read(&state_path).map_err(io_at(&state_path))?;
        let state: TrainerState =
            serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Damaged {
                path: state_path,
                message: "not a trainer state of this version".to_string(),
                source: Some(error.into()),
            })?;
        let moments_path = trainer.join(OPTIMIZER);
        let moments = weights::read(&moments_path)?.tensors;
        optimizer
            .load(model, moments, &state.optimizer_times)
            .map_err(|message| CheckpointError::Damaged {
                path: moments_path,
                message,
                source: None,
            })?;
        for later in self
            .list()?
            .into_iter()
            .filter(|other| other.step > checkpoint.step)
        {
            remove_folder(&later.path)?;
        }
        self.point_to_best(state.best.as_ref())?;
        Ok(state)
    }

    fn lock(path: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(path).map_err(io_at(path))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(io_at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_path_buf(),
                changed: Vec::new(),
                inputs: OnceLock::new(),
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(CheckpointError::Locked { path: path.into() }),
            Err(fs::TryLockError::Error(source)) => Err(CheckpointError::Io {
                path: lock_path,
                source,
            }),
        }
    }

    fn has_run(&self) -> bool {
        [CONFIG, METRICS, LATEST]
            .iter()
            .any(|file| self.path.join(file).exists())
            || self.list().is_ok_and(|checkpoints| !checkpoints.is_empty())
    }

    fn clear(&self) -> Result<(), CheckpointError> {
        for file in [LATEST, BEST, CONFIG, METRICS, SKIPPED] {
            let path = self.path.join(file);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_at(&path)(error));
                }
                _ => {}
            }
        }
        for folder in [self.tensorboard(), self.cache()] {
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(io_at(&folder))?;
            }
        }
        for checkpoint in self.list()? {
            remove_folder(&checkpoint.path)?;
        }
        Ok(())
    }

    fn start(&self, config: &RunConfig) -> Result<(), CheckpointError> {
        let checkpoints = self.path.join(CHECKPOINTS);
        fs::create_dir_all(&checkpoints).map_err(io_at(&checkpoints))?;
        self.write_atomic(CONFIG, &config.to_toml())
    }

    fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.path.join(CHECKPOINTS).join(name_of(step))
    }

    fn unfinished(&self, step: u64) -> PathBuf {
        let name = format!("{UNFINISHED}{}", name_of(step));
        self.path.join(CHECKPOINTS).join(name)
    }

    /// Complete checkpoints, sorted by step. Deletes unfinished ones.
    fn list(&self) -> Result<Vec<Checkpoint>, CheckpointError> {
        let folder = self.path.join(CHECKPOINTS);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_at(&folder)(source)),
        };
        let mut checkpoints = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_at(&folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(UNFINISHED) {
                remove_folder(&path)?;
            } else if let Some(step) = step_of(&path) {
                checkpoints.push(Checkpoint { path, step });
            }
        }
        checkpoints.sort_by_key(|checkpoint| checkpoint.step);
        Ok(checkpoints)
    }

    fn prune(&self, keep: usize, best: Option<u64>) -> Result<(), CheckpointError> {
        let mut checkpoints = self.list()?;
        let older = checkpoints.len().saturating_sub(keep);
        for checkpoint in checkpoints.drain(..older) {
            if Some(checkpoint.step) != best {
                remove_folder(&checkpoint.path)?;
            }
        }
        Ok(())
    }

    fn point_to_best(&self, best: Option<&BestState>) -> Result<(), CheckpointError> {
        match best {
            Some(best) => self.write_atomic(BEST, &format!("{}\n", name_of(best.step))),
            None => Ok(()),
        }
    }

    /// Writes a file of the run's folder atomically, by renaming a temporary one.
    fn write_atomic(&self, name: &str, text: &str) -> Result<(), CheckpointError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let write = || -> io::Result<()> {
            fs::write(&temporary, text)?;
            File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(io_at(&path))?;
        sync_folder(&self.path)
    }
}

fn name_of(step: u64) -> String {
    format!("step-{step:08}")
}

fn step_of(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    name.strip_prefix("step-")?.parse().ok()
}

/// Deletes a folder. It is renamed first, so a partly deleted checkpoint is never visible.
fn remove_folder(path: &Path) -> Result<(), CheckpointError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let deleted = if name.starts_with(UNFINISHED) {
        path.to_path_buf()
    } else {
        let deleted = path.with_file_name(format!("{UNFINISHED}{name}-old"));
        fs::rename(path, &deleted).map_err(io_at(path))?;
        deleted
    };
    match fs::remove_dir_all(&deleted) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(&deleted)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoints_name_gives_its_step() {
        assert_eq!(
            step_of(Path::new("x").join(name_of(1234)).as_path()),
            Some(1234)
        );
        assert_eq!(step_of(Path::new("x/.unfinished-step-00000001")), None);
    }
}
