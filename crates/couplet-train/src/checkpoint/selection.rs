//! Which checkpoint a run continues from.

use std::fs;
use std::path::{Path, PathBuf};

use couplet_eval::{CHECKPOINTS_FOLDER, Pointer, checkpoint_name, checkpoints_of, read_pointer};
use couplet_model::Manifest;
use toml::{Table, Value};

use super::error::{CheckpointError, io_at};
use super::examination::{Examination, Verdict, changed_logs, examine};
use super::identity::read_id;
use super::names::{self, BEST, CHANGES, CONFIG, LATEST};

/// The outcome of [`select`].
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The step and the folder of the chosen checkpoint; `None` if the run has none.
    pub checkpoint: Option<(u64, PathBuf)>,
    /// The ID of the run that wrote it.
    pub run: Option<String>,
    /// Later checkpoints that are damaged.
    pub damaged: Vec<(u64, PathBuf)>,
    /// What a user should know, one line each.
    pub notes: Vec<String>,
}

/// Chooses the checkpoint that `latest` names, or the newest one that is whole.
/// - id: the run's ID, if it is known.
///
/// # Errors
/// If all checkpoints are damaged, or none is left.
pub(super) fn select(run: &Path, id: Option<&str>) -> Result<Selection, CheckpointError> {
    let mut candidates = checkpoints_of(run).map_err(io_at(&run.join(CHECKPOINTS_FOLDER)))?;
    candidates.reverse();
    let latest_path = run.join(LATEST);
    let latest = read_pointer(run, LATEST).map_err(io_at(&latest_path))?;
    let mut selection = Selection::default();
    let why_not_latest = match &latest {
        Pointer::Absent if candidates.is_empty() => {
            // Nothing was ever saved, unless `best` says so.
            let best = read_pointer(run, BEST).map_err(io_at(&run.join(BEST)))?;
            if best == Pointer::Absent {
                return Ok(selection);
            }
            Some("is missing".to_string())
        }
        Pointer::Absent => Some("is missing".to_string()),
        Pointer::Broken(message) => Some(message.clone()),
        Pointer::To(folder) => {
            // A later one is from a process that ended before it replaced `latest`.
            let at = candidates.iter().position(|(_, path)| path == folder);
            if let Some(at) = at {
                selection
                    .notes
                    .extend(note_of_later(folder, &candidates[..at]));
                candidates[..=at].rotate_right(1);
            }
            at.is_none()
                .then(|| "names a folder without a checkpoint".to_string())
        }
    };
    if candidates.is_empty() {
        return Err(CheckpointError::Damaged {
            path: latest_path,
            message: format!(
                "{}, and there is no other checkpoint; restore the checkpoints from a copy, or start \
                 again with --overwrite",
                why_not_latest.unwrap_or_default()
            ),
            source: None,
        });
    }
    let batch = saved_batch(run);
    let mut problems = Vec::new();
    for (step, path) in candidates {
        let Examination {
            verdict,
            unreadable,
            manifest,
        } = examine(run, (&path, step), id, batch);
        let name = format!("{CHECKPOINTS_FOLDER}/{}", checkpoint_name(step));
        if let Some(what) = unreadable {
            return Err(CheckpointError::Damaged {
                path,
                message: format!(
                    "{what}; check the disk and the permissions, and resume again: nothing was changed"
                ),
                source: None,
            });
        }
        match verdict {
            Verdict::Damaged(found) => {
                let found = found.iter().map(|what| format!("{name}: {what}"));
                problems.extend(found);
                selection.damaged.push((step, path));
                continue;
            }
            Verdict::Unchecked => selection.notes.push(format!(
                "{name} has no manifest, as an earlier version wrote it: its files cannot be checked"
            )),
            Verdict::Whole => {}
        }
        if let Some(why) = why_not_latest {
            let note =
                format!("`{LATEST}` {why}; continuing from the newest whole checkpoint, {name}");
            selection.notes.insert(0, note);
        }
        if !problems.is_empty() {
            selection.damaged.retain(|(damaged, _)| *damaged > step);
            let mut note = format!("damaged: {}; continuing from {name}", problems.join("; "));
            let kept = selection.damaged.iter().map(|(damaged, path)| {
                let kept = names::free_for_damaged(path.parent().unwrap_or(run), *damaged);
                format!("; kept as {}", kept.display())
            });
            note.extend(kept);
            selection.notes.push(note);
        }
        let changed = manifest
            .iter()
            .flat_map(|manifest| changed_logs(run, manifest));
        let changed = changed.map(|log| {
            format!("{log} was changed after it was written; `couplet verify` says where")
        });
        selection.notes.extend(changed);
        selection.checkpoint = Some((step, path));
        selection.run = manifest.map(|manifest| manifest.run);
        return Ok(selection);
    }
    Err(CheckpointError::AllDamaged {
        path: run.to_path_buf(),
        problems,
    })
}

/// - later: checkpoints after the one that `latest` names.
fn note_of_later(latest: &Path, later: &[(u64, PathBuf)]) -> Option<String> {
    let names: Vec<String> = later
        .iter()
        .map(|(step, _)| checkpoint_name(*step))
        .collect();
    (!names.is_empty()).then(|| {
        let latest = latest.file_name().unwrap_or_default().to_string_lossy();
        let later = names.join(", ");
        format!("`{LATEST}` names {latest}, so {later} will be deleted")
    })
}

/// The batch size of the config that the run has saved, if it was the same from the first step.
fn saved_batch(run: &Path) -> Option<u64> {
    if run.join(CHANGES).is_file() {
        return None;
    }
    let config: Table = fs::read_to_string(run.join(CONFIG)).ok()?.parse().ok()?;
    let batch = config
        .get("batch")?
        .get("global")
        .and_then(Value::as_integer);
    u64::try_from(batch?).ok()
}

/// A checkpoint that was read.
#[derive(Debug)]
pub(crate) struct Examined {
    pub step: u64,
    pub path: PathBuf,
    pub verdict: Verdict,
    pub manifest: Option<Manifest>,
}

/// The checkpoints of a run, sorted by step; each is read when it is asked for.
///
/// # Errors
/// If there is no run, or its folder cannot be read.
pub(crate) fn examine_all(
    run: &Path,
) -> Result<impl DoubleEndedIterator<Item = Examined> + ExactSizeIterator, CheckpointError> {
    let checkpoints = checkpoints_of(run).map_err(io_at(&run.join(CHECKPOINTS_FOLDER)))?;
    if checkpoints.is_empty() && !run.join(CONFIG).is_file() {
        return Err(CheckpointError::Damaged {
            path: run.to_path_buf(),
            message: format!("no run here: it has neither {CONFIG} nor checkpoints"),
            source: None,
        });
    }
    let (id, batch) = (read_id(run), saved_batch(run));
    Ok(checkpoints.into_iter().map(move |(step, path)| {
        let found = examine(run, (&path, step), id.as_deref(), batch);
        Examined {
            step,
            path,
            verdict: found.verdict,
            manifest: found.manifest,
        }
    }))
}
