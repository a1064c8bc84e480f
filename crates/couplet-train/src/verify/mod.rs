//! Whether a run's folder is whole: `couplet verify`. Nothing in it is changed.

mod logs;
mod replay;

use std::path::{Path, PathBuf};

use couplet_data::with_causes;
use couplet_eval::{Pointer, checkpoint_name, read_pointer};

use crate::checkpoint::{
    CheckpointError, METRICS, RunFolder, SKIPPED, TRAIN_LOG, Verdict, examine_all, record_problem,
};
pub use logs::LogReport;
use logs::check_log;
pub use replay::{Replay, ReplayError, replay};

/// What [`verify`] found.
#[derive(Debug)]
pub struct RunReport {
    /// Sorted by step.
    pub checkpoints: Vec<CheckpointReport>,
    /// `metrics.jsonl`, `skipped.jsonl` and `train.log`.
    pub logs: Vec<LogReport>,
    /// What is wrong with `latest`, `best` and `record.json`.
    pub pointers: Vec<String>,
}

/// A checkpoint and its verdict.
#[derive(Debug)]
pub struct CheckpointReport {
    pub path: PathBuf,
    pub step: u64,
    /// Bytes of all files that the manifest lists; `None` without a manifest.
    pub bytes: Option<u64>,
    pub verdict: Verdict,
}

impl RunReport {
    /// Whether something is damaged.
    pub fn is_damaged(&self) -> bool {
        let is_damaged =
            |checkpoint: &CheckpointReport| matches!(checkpoint.verdict, Verdict::Damaged(_));
        self.checkpoints.iter().any(is_damaged)
            || self.logs.iter().any(|log| !log.problems.is_empty())
            || !self.pointers.is_empty()
    }
}

/// Reads a run's folder: every checkpoint is compared with its manifest, and every line of the logs
/// is read.
///
/// # Errors
/// If there is no run, or its folder cannot be read.
pub fn verify(run: &Path) -> Result<RunReport, CheckpointError> {
    verify_with(run, |_, _| ())
}

/// As [`verify`].
/// - progress: called with the number of checkpoints that are read, of how many.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(
    run: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<RunReport, CheckpointError> {
    let all = examine_all(run)?;
    let total = all.len();
    let examined = all.enumerate().map(|(at, one)| {
        progress(at + 1, total);
        one
    });
    let examined: Vec<_> = examined.collect();
    let mut pointers = Vec::new();
    for name in ["latest", "best"] {
        match read_pointer(run, name) {
            Ok(Pointer::Absent) if name == "latest" && !examined.is_empty() => {
                pointers.push("latest is missing".to_string());
            }
            Ok(Pointer::Broken(what)) => pointers.push(format!("{name} {what}")),
            Ok(Pointer::Absent | Pointer::To(_)) => {}
            Err(error) => pointers.push(format!("{name}: {}", with_causes(&error))),
        }
    }
    pointers.extend(record_problem(run));
    let logs = [METRICS, SKIPPED, TRAIN_LOG].map(|name| {
        let saved = examined.iter().filter_map(|one| {
            let digest = one.manifest.as_ref()?.logs.get(name)?;
            Some((checkpoint_name(one.step), digest))
        });
        check_log(run, name, &saved.collect::<Vec<_>>())
    });
    let checkpoints = examined.into_iter().map(|one| CheckpointReport {
        bytes: (one.manifest).map(|manifest| manifest.files.values().map(|file| file.bytes).sum()),
        path: one.path,
        step: one.step,
        verdict: one.verdict,
    });
    Ok(RunReport {
        checkpoints: checkpoints.collect(),
        logs: logs.into(),
        pointers,
    })
}

/// The checkpoint to repeat steps from: the newest whole one after which `steps` steps were logged,
/// else the one with the most logged steps after it. Steps before a change of config or data cannot be repeated.
/// - returns its step and its folder.
fn starting_point(
    run: &Path,
    logged: &[(u64, f64)],
    steps: u64,
) -> Result<Option<(u64, PathBuf)>, CheckpointError> {
    let Some((last, _)) = logged.last() else {
        return Ok(None);
    };
    let changed = RunFolder::last_change(run).unwrap_or(0);
    let mut longest = None;
    for one in examine_all(run)?.rev() {
        if one.step < changed {
            break;
        }
        if matches!(one.verdict, Verdict::Damaged(_)) {
            continue;
        }
        if one.step.saturating_add(steps) <= *last {
            return Ok(Some((one.step, one.path)));
        }
        if one.step < *last {
            longest = Some((one.step, one.path));
        }
    }
    Ok(longest)
}
