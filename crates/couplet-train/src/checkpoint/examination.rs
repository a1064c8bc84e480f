//! Whether a checkpoint is whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use couplet_data::with_causes;
use couplet_eval::TRAINER_STATE_FILE;
use couplet_model::weights;
use couplet_model::{FileDigest, MANIFEST_FILE, Manifest, ManifestError, open_clip};
use serde_json::Value;

use super::names::{METRICS, OPTIMIZER_FILE, READ_ON_RESUME, SKIPPED, TRAIN_LOG};
use super::state::{StateError, TrainerState};

/// The last part of a log, in which its last line is looked for.
const TAIL: u64 = 1 << 20;

/// What a checkpoint's files are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All files are as they were written.
    Whole,
    /// There is no manifest, as in checkpoints of versions that wrote none. Nothing else was found
    /// wrong.
    Unchecked,
    /// What is wrong, one text a file: `trainer/state.json is missing`.
    Damaged(Vec<String>),
}

/// A checkpoint's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Examination {
    pub verdict: Verdict,
    /// A file that the system could not read, which says nothing about its content.
    pub unreadable: Option<String>,
    pub manifest: Option<Manifest>,
}

/// Reads all files of a checkpoint.
/// - run: the folder of the run; id: the run's, if it is known.
/// - batch: the run's batch size, which checkpoints without a manifest agree with.
pub(super) fn examine(
    run: &Path,
    (checkpoint, step): (&Path, u64),
    id: Option<&str>,
    batch: Option<u64>,
) -> Examination {
    let (mut problems, mut unreadable) = (Vec::new(), None);
    let manifest = Manifest::read(checkpoint).unwrap_or_else(|error| {
        note_unreadable(&mut unreadable, &error);
        problems.push(brief(checkpoint, &error));
        None
    });
    let is_damaged = !problems.is_empty();
    if let Some(manifest) = &manifest {
        if manifest.step != step {
            let of = manifest.step;
            problems.push(format!("{MANIFEST_FILE} is that of step {of}"));
        }
        if let Some(id) = id.filter(|id| manifest.run != *id) {
            let of = &manifest.run;
            problems.push(format!(
                "{MANIFEST_FILE} is that of run {of}, not of this run, {id}"
            ));
        }
        let differences = manifest.differences(checkpoint, &READ_ON_RESUME);
        for error in &differences {
            note_unreadable(&mut unreadable, error);
            problems.push(brief(checkpoint, error));
        }
    } else if !is_damaged {
        problems.extend(unreadable_files(checkpoint));
    }
    if problems.is_empty() {
        match TrainerState::read(&checkpoint.join(TRAINER_STATE_FILE)) {
            Ok(state) => {
                let mut found = state.problems(step);
                let mut of_logs = Vec::new();
                if manifest.is_none() {
                    found.extend(batch.and_then(|batch| state.problem_of_batch(batch)));
                    let metrics = problem_of_log(run, METRICS, state.metrics_len, Some(&state));
                    let skipped = problem_of_log(run, SKIPPED, state.skipped_len, None);
                    of_logs.extend([metrics, skipped].into_iter().flatten());
                }
                let of_state = |what| format!("{TRAINER_STATE_FILE}: {what}");
                problems.extend(found.into_iter().map(of_state));
                problems.extend(of_logs);
            }
            Err(StateError(what)) => problems.push(format!("{TRAINER_STATE_FILE}: {what}")),
        }
    }
    let verdict = match (problems.is_empty(), &manifest) {
        (false, _) => Verdict::Damaged(problems),
        (true, Some(_)) => Verdict::Whole,
        (true, None) => Verdict::Unchecked,
    };
    Examination {
        verdict,
        unreadable,
        manifest,
    }
}

/// Logs whose part before the checkpoint has changed since. Training does not read them, so the
/// checkpoint is none the worse.
pub(super) fn changed_logs(run: &Path, manifest: &Manifest) -> Vec<&'static str> {
    let changed = manifest.logs.iter().filter_map(|(name, was)| {
        let name = [METRICS, SKIPPED, TRAIN_LOG]
            .into_iter()
            .find(|log| log == name)?;
        let is = FileDigest::of_beginning(&run.join(name), was.bytes);
        (is.ok().as_ref() != Some(was)).then_some(name)
    });
    changed.collect()
}

fn note_unreadable(unreadable: &mut Option<String>, error: &ManifestError) {
    if let ManifestError::Io { .. } = error {
        unreadable.get_or_insert_with(|| with_causes(error));
    }
}

/// A file's name in the checkpoint, and what is wrong with it.
fn brief(checkpoint: &Path, error: &ManifestError) -> String {
    match error {
        ManifestError::Differs { path, difference } => {
            let name = path.strip_prefix(checkpoint).unwrap_or(path);
            format!("{} {difference}", name.display())
        }
        ManifestError::Damaged { message, .. } => {
            format!("{MANIFEST_FILE} is damaged: {message}")
        }
        ManifestError::Io { .. } | ManifestError::Newer { .. } => with_causes(error),
    }
}

/// Files that resuming needs and that cannot be read, of a checkpoint without a manifest.
fn unreadable_files(checkpoint: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for name in [open_clip::CONFIG_FILE, TRAINER_STATE_FILE] {
        if !checkpoint.join(name).is_file() {
            problems.push(format!("{name} is missing"));
        }
    }
    for name in READ_ON_RESUME {
        let path = checkpoint.join(name);
        let is_needed = [open_clip::WEIGHTS_FILE, OPTIMIZER_FILE].contains(&name);
        if !name.ends_with(".safetensors") || !(is_needed || path.exists()) {
            continue;
        }
        // Also finds a file that was cut.
        if let Err(error) = weights::metadata(&path) {
            problems.push(with_causes(&error));
        }
    }
    problems
}

/// What is wrong with a log up to the length that a checkpoint states.
/// - state: of the checkpoint, for the log of metrics.
fn problem_of_log(
    run: &Path,
    name: &str,
    len: u64,
    state: Option<&TrainerState>,
) -> Option<String> {
    let path = run.join(name);
    let is = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if is < len {
        return Some(format!(
            "{name} has {is} bytes, and had {len} at this checkpoint"
        ));
    }
    if len == 0 {
        return None;
    }
    let tail = match read_tail(&path, len) {
        Ok(tail) => tail,
        Err(error) => return Some(format!("{name} cannot be read: {error}")),
    };
    let Some((b'\n', lines)) = tail.split_last() else {
        return Some(format!(
            "{name}: no line ends at byte {len}, where the checkpoint ends"
        ));
    };
    let last = lines.rsplit(|byte| *byte == b'\n').next()?;
    // A damaged line is no matter of the checkpoint.
    let last: Value = serde_json::from_slice(last).ok()?;
    let (state, step) = (state?, last["step"].as_u64()?);
    let samples = last["samples_seen"].as_u64().unwrap_or(state.samples_seen);
    let agrees = match step.cmp(&state.step) {
        std::cmp::Ordering::Less => samples <= state.samples_seen,
        std::cmp::Ordering::Equal => samples == state.samples_seen,
        std::cmp::Ordering::Greater => false,
    };
    (!agrees).then(|| {
        let (at, seen) = (state.step, state.samples_seen);
        format!(
            "{TRAINER_STATE_FILE}: step {at} after {seen} samples does not agree with {name}: step \
             {step} after {samples} samples"
        )
    })
}

/// The last bytes of the first `len` bytes of a file.
fn read_tail(path: &Path, len: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = len.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(len - start).read_to_end(&mut bytes)?;
    Ok(bytes)
}
