//! A run's folder and its checkpoints. A checkpoint is an open_clip folder with an additional
//! `trainer/`. It is written under a temporary name, synced and renamed, so every visible
//! checkpoint is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use couplet_eval::{CHECKPOINTS_FOLDER, checkpoint_name, checkpoints_of, is_checkpoint};
use couplet_model::Clip;

use crate::config::RunConfig;
use crate::optimizer::ModelOptimizer;
use crate::text_log::TextLog;

mod contents;
mod error;
mod examination;
mod hold;
mod identity;
mod inputs;
mod lock;
mod names;
mod pending;
mod reading;
mod record;
mod recording;
mod removal;
mod resume;
mod selection;
mod state;
mod updates;

pub(crate) use contents::Contents;
use contents::write_checkpoint;
pub use error::CheckpointError;
use error::{io_at, sync_folder};
pub use examination::Verdict;
pub use hold::hold_checkpoints;
pub(crate) use identity::Identity;
use identity::{new_id, read_id, run_file};
use inputs::Inputs;
use lock::{open_lock, take_lock};
use names::names_of;
use names::{
    BEST, CACHE, CONFIG, FILES, LATEST, LOCK, RUN, TENSORBOARD, old, temporary, unfinished,
};
pub(crate) use names::{METRICS, SKIPPED, TRAIN_LOG};
use pending::Pending;
pub use reading::Checkpoint;
pub(crate) use reading::whole_lines;
pub use record::Program;
use record::Record;
pub(crate) use record::record_problem;
use removal::{
    entries, move_out_of_the_way, remove_checkpoint, remove_run, remove_unfinished,
    remove_unfinished_one, set_aside,
};
pub use resume::AllowedChanges;
pub(crate) use selection::examine_all;
use selection::{Selection, select};
pub(crate) use state::{BestState, Counted, GuardStop, TrainerState};
pub(crate) use updates::{UpdatesOf, sizes_of_updates};

/// The folder of a run. While it is open, no other process can train in it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    identity: Identity,
    /// The run's ID.
    run: String,
    /// What a resumed run continues from.
    checkpoint: Option<Checkpoint>,
    /// Later checkpoints that are damaged, with their steps.
    damaged: Vec<(u64, PathBuf)>,
    changed: Vec<String>,
    /// Found once: it costs reading captions.
    inputs: OnceLock<Inputs>,
    /// What a resumed run writes once it can go on.
    pending: Option<Pending>,
    notes: Vec<String>,
    text_log: TextLog,
    program: Program,
    record: Record,
    /// Whether the logs start empty, because the run is in another folder.
    is_scratch: bool,
    /// Locked while the run lasts; the system releases it however the process ends.
    _lock: File,
}

impl RunFolder {
    /// Creates the folder of a new run.
    ///
    /// # Errors
    /// If the folder already holds a run or files with the names of a run's, is in use or cannot be
    /// written.
    pub fn create(path: &Path, config: &RunConfig) -> Result<Self, CheckpointError> {
        let folder = Self::lock(path)?;
        folder.check_no_foreign_run()?;
        if folder.is_run() {
            return Err(CheckpointError::Occupied { path: path.into() });
        }
        folder.start(config)?;
        Ok(folder)
    }

    /// Creates the folder of a new run and deletes the run that it may hold, but no other files.
    ///
    /// # Errors
    /// If the folder holds files with the names of a run's, but no run; is in use or cannot be
    /// written.
    pub fn overwrite(path: &Path, config: &RunConfig) -> Result<Self, CheckpointError> {
        let mut folder = Self::lock(path)?;
        folder.check_no_foreign_run()?;
        let left = remove_run(path)?;
        folder.run = new_id();
        if !left.is_empty() {
            let left = names_of(&left).join(", ");
            let note = format!("{left}: kept, with files that no run has written");
            folder.notes.push(note);
        }
        folder.start(config)?;
        Ok(folder)
    }

    /// The run's ID.
    pub(crate) fn id(&self) -> &str {
        &self.run
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How a resumed run's config differs from the saved one, one line per key.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// What a user should know of how the folder was opened, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Checks that the folder is still where it was opened.
    pub(crate) fn check_in_place(&self) -> Result<(), CheckpointError> {
        match Identity::of_path(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            _ => Err(CheckpointError::Moved {
                path: self.path.clone(),
            }),
        }
    }

    /// The folder of TensorBoard event files.
    pub(crate) fn tensorboard(&self) -> PathBuf {
        self.path.join(TENSORBOARD)
    }

    /// The path of the config that the run in folder `path` has saved.
    pub(crate) fn config_of(path: &Path) -> PathBuf {
        path.join(CONFIG)
    }

    /// A folder in which steps are repeated from a checkpoint of another run's folder.
    pub(crate) fn scratch(
        path: &Path,
        (step, checkpoint): (u64, &Path),
    ) -> Result<Self, CheckpointError> {
        let mut folder = Self::lock(path)?;
        folder.checkpoint = Some(Checkpoint {
            path: checkpoint.to_path_buf(),
            step,
        });
        folder.is_scratch = true;
        Ok(folder)
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

    /// `train.log`: what is printed of the run.
    pub fn text_log(&self) -> &TextLog {
        &self.text_log
    }

    /// The checkpoint that a resumed run continues from, if there is one.
    pub fn latest(&self) -> Option<Checkpoint> {
        self.checkpoint.clone()
    }

    /// Writes a checkpoint, points `latest` (and `best`, if it is the best) to it, and deletes old
    /// ones.
    /// - keep: the number of latest checkpoints to keep in addition to the best.
    pub(crate) fn save(
        &self,
        contents: &Contents,
        keep: usize,
    ) -> Result<Checkpoint, CheckpointError> {
        let _held = hold_checkpoints();
        self.check_in_place()?;
        let step = contents.state.step;
        let folder = self.checkpoints().join(checkpoint_name(step));
        if folder.exists() && !is_checkpoint(&folder) {
            move_out_of_the_way(&folder, step)?;
        }
        let unfinished = unfinished(&self.checkpoints(), step);
        remove_unfinished_one(&unfinished)?;
        if let Err(error) = write_checkpoint(&unfinished, &self.run, contents) {
            // Frees space on a full disk for the next attempt.
            remove_unfinished_one(&unfinished).ok();
            return Err(error);
        }
        // If this process ends between the two, the checkpoint before this one is the latest.
        let previous = old(&self.checkpoints(), step);
        if folder.exists() {
            fs::rename(&folder, &previous).map_err(io_at(&folder))?;
        }
        fs::rename(&unfinished, &folder).map_err(io_at(&folder))?;
        sync_folder(&self.checkpoints())?;
        remove_unfinished(&self.checkpoints())?;
        self.write_atomic(LATEST, &format!("{}\n", checkpoint_name(step)))?;
        self.point_to_best(contents.state.best.as_ref())?;
        let best = contents.state.best.as_ref().map(|best| best.step);
        self.prune(keep, best)?;
        Ok(Checkpoint { path: folder, step })
    }

    /// Reads the trainer's state and the optimiser's moments. The logs of a run that was moved here start
    /// empty, and a log that was cut goes on as it is.
    pub(crate) fn load(
        &self,
        checkpoint: &Checkpoint,
        model: &Clip,
        optimizer: &mut ModelOptimizer,
    ) -> Result<TrainerState, CheckpointError> {
        let state = checkpoint.load_state(model, optimizer)?;
        if self.is_scratch {
            return Ok(TrainerState {
                metrics_len: 0,
                skipped_len: 0,
                ..state
            });
        }
        Ok(TrainerState {
            metrics_len: whole_lines(&self.metrics(), state.metrics_len)?,
            skipped_len: whole_lines(&self.skipped(), state.skipped_len)?,
            ..state
        })
    }

    /// Deletes checkpoints after the one that the run continues from; damaged ones are renamed.
    /// - returns what a user should know.
    pub(crate) fn settle(
        &self,
        checkpoint: &Checkpoint,
        state: &mut TrainerState,
    ) -> Result<Option<String>, CheckpointError> {
        if self.is_scratch {
            return Ok(None);
        }
        for (step, path) in &self.damaged {
            set_aside(path, *step)?;
        }
        for (step, path) in self.list()? {
            if step > checkpoint.step {
                remove_checkpoint(&path, step)?;
            }
        }
        remove_unfinished(&self.checkpoints())?;
        let latest = format!("{}\n", checkpoint_name(checkpoint.step));
        self.write_atomic(LATEST, &latest)?;
        let is_there =
            |best: &BestState| is_checkpoint(&self.checkpoints().join(checkpoint_name(best.step)));
        if let Some(best) = state.best.take_if(|best| !is_there(best)) {
            match fs::remove_file(self.path.join(BEST)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_at(&self.path.join(BEST))(error));
                }
                _ => {}
            }
            return Ok(Some(format!(
                "the best checkpoint until then, {}, is gone; the next evaluation is the best",
                checkpoint_name(best.step)
            )));
        }
        self.point_to_best(state.best.as_ref())?;
        Ok(None)
    }

    fn lock(path: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(path).map_err(io_at(path))?;
        let lock_path = path.join(LOCK);
        let lock = open_lock(&lock_path)?;
        match take_lock(&lock) {
            Ok(()) => Ok(Self {
                path: path.to_path_buf(),
                identity: Identity::of_path(path).map_err(io_at(path))?,
                run: read_id(path).unwrap_or_else(new_id),
                checkpoint: None,
                damaged: Vec::new(),
                changed: Vec::new(),
                inputs: OnceLock::new(),
                pending: None,
                notes: Vec::new(),
                text_log: TextLog::new(&path.join(TRAIN_LOG)),
                program: Program::default(),
                record: Record::default(),
                is_scratch: false,
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(CheckpointError::Locked { path: path.into() }),
            Err(fs::TryLockError::Error(source)) => Err(io_at(&lock_path)(source)),
        }
    }

    /// Whether Couplet has started a run here: versions before `run.json` wrote these two first.
    fn is_run(&self) -> bool {
        let has = |name: &str| self.path.join(name).is_file();
        read_id(&self.path).is_some()
            || (has(CONFIG) && has(METRICS))
            || self.list().is_ok_and(|checkpoints| !checkpoints.is_empty())
    }

    /// Fails if a file with the name of a run's would be replaced and there is no run.
    fn check_no_foreign_run(&self) -> Result<(), CheckpointError> {
        let path = &self.path;
        let in_the_way = FILES.iter().map(|name| path.join(name));
        let in_the_way: Vec<_> = in_the_way.filter(|path| path.exists()).collect();
        if in_the_way.is_empty() || self.is_run() {
            return Ok(());
        }
        Err(CheckpointError::Foreign {
            path: path.clone(),
            files: names_of(&in_the_way),
        })
    }

    /// Chooses what a resumed run continues from.
    /// - returns whether there is a checkpoint; if not, a run can start here.
    fn select_checkpoint(&mut self) -> Result<bool, CheckpointError> {
        let id = read_id(&self.path);
        let Selection {
            checkpoint,
            run,
            damaged,
            notes,
        } = select(&self.path, id.as_deref())?;
        self.notes.extend(notes);
        self.damaged = damaged;
        self.checkpoint = checkpoint.map(|(step, path)| Checkpoint { path, step });
        if let (None, Some(run)) = (&id, run) {
            self.run = run;
        }
        if self.checkpoint.is_some() {
            return Ok(true);
        }
        let mut files = entries(&self.path)?;
        let own = FILES.map(temporary);
        files.retain(|path| {
            let name = path.file_name().unwrap_or_default();
            name != LOCK && !own.iter().any(|own| name == own.as_str())
        });
        if files.is_empty() || id.is_some() {
            return Ok(false);
        }
        Err(CheckpointError::NothingToResume {
            path: self.path.clone(),
            files: names_of(&files),
        })
    }

    fn start(&self, config: &RunConfig) -> Result<(), CheckpointError> {
        // Before anything else: the folder is now a run's.
        self.write_atomic(RUN, &run_file(&self.run))?;
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(io_at(&checkpoints))?;
        remove_unfinished(&checkpoints)?;
        self.write_atomic(CONFIG, &config.to_toml())
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS_FOLDER)
    }

    /// The checkpoints with their steps, sorted by step.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        checkpoints_of(&self.path).map_err(io_at(&self.checkpoints()))
    }

    fn prune(&self, keep: usize, best: Option<u64>) -> Result<(), CheckpointError> {
        let mut checkpoints = self.list()?;
        let older = checkpoints.len().saturating_sub(keep);
        for (step, path) in checkpoints.drain(..older) {
            if Some(step) != best {
                remove_checkpoint(&path, step)?;
            }
        }
        Ok(())
    }

    fn point_to_best(&self, best: Option<&BestState>) -> Result<(), CheckpointError> {
        match best {
            Some(best) => self.write_atomic(BEST, &format!("{}\n", checkpoint_name(best.step))),
            None => Ok(()),
        }
    }

    /// Writes a file of the run's folder atomically, by renaming a temporary one.
    fn write_atomic(&self, name: &str, text: &str) -> Result<(), CheckpointError> {
        let path = self.path.join(name);
        let temporary = self.path.join(temporary(name));
        let write = || -> io::Result<()> {
            fs::write(&temporary, text)?;
            File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(io_at(&path))?;
        sync_folder(&self.path)
    }
}
