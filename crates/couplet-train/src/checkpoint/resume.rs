//! Whether a run may go on with the config and the data that it is given.

use std::fs;
use std::path::{Path, PathBuf};

use couplet_data::ListingChange;
use couplet_eval::{Pointer, TRAINER_STATE_FILE, checkpoints_of, read_pointer};
use toml::Table;

use super::RunFolder;
use super::error::{CheckpointError, io_at};
use super::identity::{read_id, run_file};
use super::inputs::Inputs;
use super::names::{CHANGES, CONFIG, INPUTS, LATEST, LOCK, RUN, earlier_config, is_earlier_config};
use super::pending::{ChangeNote, Pending};
use super::reading::Checkpoint;
use super::state::{Counted, TrainerState};
use crate::config::{Change, ChangeKind, ResolvedRun, changes, make_absolute, set_words_right};
use crate::duration::Unit;
use crate::schedule::ScheduleConfig;

/// The changes of its config and data with which a run may be resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AllowedChanges {
    /// Those with which it stays the same run.
    #[default]
    Harmless,
    /// A longer schedule too.
    Longer,
    /// All with which a run can go on.
    All,
}

/// Changes, sorted by what a run may do about them; one line each.
#[derive(Default)]
struct Sorted {
    allowed: AllowedChanges,
    /// The run stays the same.
    free: Vec<String>,
    /// The run goes on differently, as the user said.
    noted: Vec<String>,
    asked: Vec<String>,
    never: Vec<String>,
}

impl RunFolder {
    /// Opens the folder of a run that another process was training, which has ended, to save what that
    /// process had trained.
    /// - id: the run's.
    /// - returns `None` if the folder is not there, as on a machine that does not share it.
    ///
    /// # Errors
    /// If a process still trains there, or the folder cannot be opened.
    pub(crate) fn take_over(path: &Path, id: &str) -> Result<Option<Self>, CheckpointError> {
        if read_id(path).as_deref() != Some(id) {
            return Ok(None);
        }
        Self::lock(path).map(Some)
    }

    /// Whether a process trains or saves in folder `path`; `None` if the folder is not there, as on a machine
    /// that does not share it.
    pub fn is_held(path: &Path) -> Option<bool> {
        let lock = fs::File::open(path.join(LOCK)).ok()?;
        // Shared, so that those who only look do not see each other.
        let looked = lock.try_lock_shared();
        Some(matches!(looked, Err(fs::TryLockError::WouldBlock)))
    }

    /// The checkpoint from which the run in folder `path` would go on. A newer one may be there that a process
    /// wrote which ended before it replaced `latest`; it counts for nothing.
    pub(crate) fn latest_of(path: &Path) -> Option<Checkpoint> {
        let Ok(Pointer::To(latest)) = read_pointer(path, LATEST) else {
            return None;
        };
        let mut checkpoints = checkpoints_of(path).ok()?.into_iter();
        let (step, path) = checkpoints.find(|(_, path)| *path == latest)?;
        Some(Checkpoint { path, step })
    }

    /// Opens the folder of a run to resume from its latest checkpoint, or the newest one that is whole.
    /// An empty folder, and one of a run that ended before its first checkpoint, starts a new run.
    /// Files that the run has not written stay as they are.
    /// - allowed: the changes with which the run goes on.
    ///
    /// # Errors
    /// If the config or the data has a change that is not allowed, every checkpoint is damaged, or the
    /// folder holds other files, is in use or cannot be written.
    pub fn resume(
        path: &Path,
        run: &ResolvedRun,
        allowed: AllowedChanges,
    ) -> Result<Self, CheckpointError> {
        let config = &run.config;
        let mut folder = Self::lock(path)?;
        if !folder.select_checkpoint()? {
            folder.start(config)?;
            return Ok(folder);
        }
        let checkpoint = folder.latest().expect("one is selected");
        let config_path = path.join(CONFIG);
        let text = fs::read_to_string(&config_path).map_err(io_at(&config_path))?;
        let damaged = |error: toml::de::Error| CheckpointError::Damaged {
            path: config_path.clone(),
            message: "not a TOML file".to_string(),
            source: Some(error.into()),
        };
        let mut before: Table = text.parse().map_err(damaged)?;
        // Earlier versions had other words, and kept relative paths.
        set_words_right(&mut before);
        make_absolute(&mut before, &began_in(path));
        let now: Table = config.to_toml().parse().map_err(damaged)?;
        let changes = changes(&before, &now, config.trains_norms());
        let earlier = Inputs::read(path);
        let inputs = folder.inputs(run);
        let mut sorted = Sorted {
            allowed,
            ..Sorted::default()
        };
        sorted.data(earlier.as_ref(), inputs);
        let is_same_data = sorted.asked.is_empty();
        let is_same_tokenizer = earlier.as_ref().is_some_and(|earlier| {
            earlier.tokenizer.is_some() && earlier.tokenizer == inputs.tokenizer
        });
        for change in &changes {
            let line = format!("{}: {}", change.key, change.text);
            match change.kind {
                ChangeKind::Free => sorted.free.push(line),
                ChangeKind::Place if is_same_data && earlier.is_some() => {
                    sorted.free.push(format!("{line}: the same data"));
                }
                ChangeKind::Never(_) if change.key == "model.tokenizer" && is_same_tokenizer => {
                    sorted.free.push(format!("{line}: the same tokenizer"));
                }
                ChangeKind::Length => {
                    let counted = counted_of(&checkpoint);
                    sorted.length(change, &before, run, (checkpoint.step, counted.as_ref()));
                }
                ChangeKind::Place | ChangeKind::Asked => sorted.asked.push(line),
                ChangeKind::Never(reason) => {
                    sorted
                        .never
                        .push(format!("{line} (cannot change: {reason})"));
                }
            }
        }
        let allows_all = allowed == AllowedChanges::All;
        if !sorted.never.is_empty() || (!allows_all && !sorted.asked.is_empty()) {
            if allows_all {
                sorted.asked.clear();
            }
            return Err(CheckpointError::Changed {
                path: path.into(),
                asked: sorted.asked,
                never: sorted.never,
            });
        }
        let noted = [sorted.noted, sorted.asked].concat();
        folder.pending = Some(Pending {
            note: ChangeNote {
                step: checkpoint.step,
                changes: noted.clone(),
            },
            earlier_config: text,
            config: config.to_toml(),
        });
        folder.changed = [sorted.free, noted].concat();
        Ok(folder)
    }

    /// The directory that the relative paths in a run's `config.toml` start from, if it is recorded.
    pub fn working_dir(path: &Path) -> Option<PathBuf> {
        Inputs::read(path).map(|inputs| inputs.working_dir)
    }

    /// What the run reads.
    pub(crate) fn inputs(&self, run: &ResolvedRun) -> &Inputs {
        self.inputs.get_or_init(|| Inputs::of(run))
    }

    /// Stores the config that the run goes on with, what is noted of its changes, and what it reads, for
    /// the next time that it is resumed.
    pub(crate) fn commit(&self, run: &ResolvedRun) -> Result<(), CheckpointError> {
        if let Some(pending) = &self.pending {
            let note = &pending.note;
            if !note.changes.is_empty() {
                // Written first: what is noted and then not done is noted again, the reverse is lost.
                self.note(note)?;
                let name = earlier_config(note.step);
                if !self.path.join(&name).exists() {
                    self.write_atomic(&name, &pending.earlier_config)?;
                }
            }
            self.write_atomic(RUN, &run_file(&self.run))?;
            self.write_atomic(CONFIG, &pending.config)?;
        }
        let inputs = self.inputs(run);
        if Inputs::read(&self.path).as_ref() == Some(inputs) {
            return Ok(());
        }
        self.write_atomic(INPUTS, &inputs.to_json())
    }

    /// The changes after `step` steps.
    pub(crate) fn notes_from(&self, step: u64) -> Vec<ChangeNote> {
        let mut notes = notes_of(&self.path);
        notes.retain(|note| note.step >= step);
        notes
    }

    /// The step after which the run in folder `path` last went on with a change.
    pub(crate) fn last_change(path: &Path) -> Option<u64> {
        notes_of(path).iter().map(|note| note.step).max()
    }

    /// Deletes what an earlier run in this folder noted of its changes.
    pub(crate) fn forget_changes(&self) -> Result<(), CheckpointError> {
        let entries = fs::read_dir(&self.path).map_err(io_at(&self.path))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == CHANGES || is_earlier_config(&name) {
                fs::remove_file(&path).map_err(io_at(&path))?;
            }
        }
        Ok(())
    }

    fn note(&self, note: &ChangeNote) -> Result<(), CheckpointError> {
        let text = fs::read_to_string(self.path.join(CHANGES)).unwrap_or_default();
        let line = serde_json::to_string(note).expect("a note serialises");
        self.write_atomic(CHANGES, &format!("{text}{line}\n"))
    }
}

/// What a checkpoint's steps are counted by; `None` in runs of earlier versions.
fn counted_of(checkpoint: &Checkpoint) -> Option<Counted> {
    let state = TrainerState::read(&checkpoint.path.join(TRAINER_STATE_FILE));
    state.ok()?.counted
}

/// The directory that relative paths in the config of the run in folder `path` start from.
fn began_in(path: &Path) -> PathBuf {
    let began_in = RunFolder::working_dir(path).filter(|folder| folder.is_dir());
    began_in.unwrap_or_else(|| std::env::current_dir().unwrap_or_default())
}

/// The changes of the run in folder `path`.
fn notes_of(path: &Path) -> Vec<ChangeNote> {
    let text = fs::read_to_string(path.join(CHANGES)).unwrap_or_default();
    let notes = text.lines().map(serde_json::from_str);
    notes.filter_map(Result::ok).collect()
}

impl Sorted {
    /// What changed in the data.
    fn data(&mut self, earlier: Option<&Inputs>, now: &Inputs) {
        let Some(earlier) = earlier else {
            return;
        };
        match earlier.train.compare(&now.train) {
            ListingChange::Same => {}
            ListingChange::Moved => {
                let line = "data.train: the files have other names, but the same content";
                self.free.push(line.into());
            }
            ListingChange::Changed(lines) => {
                let lines = lines.iter().map(|line| format!("data.train: {line}"));
                self.asked.extend(lines);
            }
        }
        for (name, digest) in &now.evals {
            if earlier
                .evals
                .get(name)
                .is_some_and(|earlier| earlier != digest)
            {
                self.noted.push(format!(
                    "eval `{name}`: its data changed; earlier values do not compare with later ones"
                ));
            }
        }
        if let (Some(earlier), Some(own)) = (&earlier.tokenizer, &now.tokenizer)
            && earlier != own
        {
            self.never.push(
                "model.tokenizer: the file has other content (cannot change: the model has learnt \
                 the former ids)"
                    .into(),
            );
        }
    }

    /// What another length means for the learning rate.
    /// - step: steps trained so far; counted: what they are counted by.
    fn length(
        &mut self,
        change: &Change,
        before: &Table,
        run: &ResolvedRun,
        (step, counted): (u64, Option<&Counted>),
    ) {
        let line = format!("{}: {}", change.key, change.text);
        let schedule = before.get("schedule").cloned();
        let earlier: Option<ScheduleConfig> = schedule.and_then(|own| own.try_into().ok());
        let Some(earlier) = earlier else {
            return self.asked.push(line);
        };
        let total = earlier.length().steps(run.sizes).unwrap_or(0);
        let now = run.schedule.total_steps;
        let batch = |table: &Table| table.get("batch")?.get("global")?.as_integer();
        let has_same_batch = batch(before) == i64::try_from(run.config.batch.global).ok();
        let is_same_size = has_same_batch
            && counted.is_none_or(|counted| counted.samples_per_epoch == run.data.epoch_len);
        // As the length is counted.
        let step = match (run.config.schedule.length().unit, counted) {
            (Unit::Steps, _) | (_, None) => step,
            (_, Some(counted)) => step.saturating_add_signed(counted.shift),
        };
        if now < step && is_same_size {
            return self.never.push(format!(
                "{line} (cannot change: {step} steps are trained, and this is {now})"
            ));
        }
        if now < total || self.allowed == AllowedChanges::Harmless {
            return self.asked.push(line);
        }
        let cooldown = earlier.cooldown().steps_of(total, run.sizes).unwrap_or(0);
        let mut what = match &run.config.schedule {
            ScheduleConfig::Cosine(_) => {
                let goes_on = if is_same_size {
                    format!(": it goes on at {:.3e}", run.schedule.learning_rate(step))
                } else {
                    String::new()
                };
                format!(
                    "from step {step} on the learning rate is that of a cosine over {now} steps \
                     instead of {total}{goes_on}"
                )
            }
            _ => "the learning rate goes on as if the run had had this length from the beginning"
                .to_string(),
        };
        if cooldown > 0 && step > total - cooldown.min(total) {
            let begun = step - (total - cooldown.min(total));
            what.push_str(&format!(
                ", but {begun} steps of the former cooldown are trained already"
            ));
        }
        if run.config.schedule.warmup().unit == Unit::Percent {
            what.push_str("; the warmup that is trained was a share of the former length");
        }
        self.noted.push(format!("{line}: {what}"));
    }
}
