//! Saving after a failure: the state after the last whole step, by whichever rank is left.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use couplet_data::{printable_path, with_causes};
use couplet_ranks::{Cause, Lost};
use serde_json::Value;

use super::books::{Books, RunPlace};
use super::{TrainError, Trainer};
use crate::checkpoint::{Checkpoint, CheckpointError, RunFolder, whole_lines};
use crate::observer::{Event, Observer};

/// How long a rank waits for the run's folder, which the kernel unlocks when rank 0 is dead. As long as rank 0
/// lives, it holds the folder and saves; whoever ended before would have the launcher kill it.
const WHILE_THE_FIRST_SAVES: Duration = Duration::from_mins(10);
/// The same if rank 0 does not answer: it may hang for ever.
const WHILE_THE_FIRST_HANGS: Duration = Duration::from_secs(8);

impl Trainer<'_> {
    /// The error of a lost rank.
    pub(super) fn lost(&self, lost: Lost) -> TrainError {
        TrainError::RankLost {
            lost,
            last_good: self.last_good(),
        }
    }

    /// Saves the state after the last whole step if `error` leaves it whole, and names it in the error.
    pub(super) fn save_what_is_whole(
        &mut self,
        error: &mut TrainError,
        observer: &mut dyn Observer,
    ) {
        if let TrainError::RankLost { lost, .. } = &*error {
            // Before the launcher ends this rank.
            let step = self.state.step;
            let text = format!("{lost}; saving the state after step {step} if no rank has");
            observer.event(Event::Note(&text));
        }
        let saved = match (&error, self.place) {
            (
                TrainError::Data(_)
                | TrainError::Guard { .. }
                | TrainError::OtherRank { .. }
                | TrainError::RankLost { .. },
                RunPlace::Open(folder),
            ) => self.save_last_step(folder, observer),
            (TrainError::RankLost { lost, .. }, RunPlace::Path(path)) => {
                let is_lost = lost.ranks().any(|rank| rank == 0);
                let has_ended = matches!(lost.cause, Cause::Ended { .. } | Cause::Aborted { .. });
                let patience = if is_lost && !has_ended {
                    WHILE_THE_FIRST_HANGS
                } else {
                    WHILE_THE_FIRST_SAVES
                };
                self.take_over(path, patience, observer)
            }
            _ => return,
        };
        if let Err(error) = saved {
            observer.event(Event::Warning(&with_causes(&error)));
        }
        let now = self.last_good();
        if let TrainError::RankLost { last_good, .. } | TrainError::OtherRank { last_good, .. } =
            error
        {
            *last_good = now;
        }
    }

    /// Saves in place of rank 0, if that is dead.
    fn take_over(
        &mut self,
        path: &Path,
        patience: Duration,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let begun = Instant::now();
        let step = self.state.step;
        let folder = loop {
            match RunFolder::take_over(path, &self.run_id) {
                Err(CheckpointError::Locked { .. }) if begun.elapsed() < patience => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error @ CheckpointError::Locked { .. }) => {
                    let error = with_causes(&error);
                    let text = format!("the state after step {step} is not saved here: {error}");
                    observer.event(Event::Note(&text));
                    break None;
                }
                Ok(None) => {
                    let text = format!(
                        "{}: not the run's folder on this machine, so this rank cannot save the state after step \
                         {step}, and does not know whether another has",
                        printable_path(path)
                    );
                    observer.event(Event::Note(&text));
                    break None;
                }
                folder => break folder?,
            }
        };
        // Rank 0 or another rank may have saved.
        self.checkpoint = RunFolder::latest_of(path);
        let Some(folder) = folder else {
            return Ok(());
        };
        let is_saved = |found: &Checkpoint| found.step >= self.state.step;
        if self.checkpoint.as_ref().is_some_and(is_saved) {
            return Ok(());
        }
        self.save_last_step(&folder, observer)
    }

    /// Cuts the logs to the last whole step, and saves it.
    fn save_last_step(
        &mut self,
        folder: &RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if self.state.step == 0 {
            return Ok(());
        }
        self.catch_up(observer)?;
        // Closes the files.
        self.books = None;
        let mut books = self.cut_books(folder)?;
        let saved = self.write_checkpoint(&mut books, observer);
        // Rank 0 writes on.
        self.books = (self.place.folder())
            .map(|own| self.cut_books(own))
            .transpose()?;
        saved
    }

    /// Opens the logs as they are after the last whole step.
    fn cut_books<'f>(&mut self, folder: &'f RunFolder) -> Result<Books<'f>, TrainError> {
        let step = self.state.step;
        let metrics = folder.metrics();
        self.state.metrics_len = until(&metrics, step, self.state.unevaluated);
        self.state.skipped_len = whole_lines(&folder.skipped(), self.state.skipped_len)?;
        let mut books = Books::open(folder, &self.state, None)?;
        // Rank 0 may have been lost before it wrote it.
        let line = self.last_line.filter(|line| line.step == step);
        if let Some(line) = line.filter(|_| !has_training_line(&metrics, step)) {
            books.metrics.write(&line)?;
        }
        Ok(books)
    }

    /// Records the bad samples that have ended the run. They are not part of the saved state.
    pub(super) fn report_what_ended_it(&mut self, observer: &mut dyn Observer) {
        let skipped = std::mem::take(&mut self.unreported);
        let written = self
            .books
            .as_mut()
            .map(|books| books.write_skipped(&skipped));
        if let Some(Err(error)) = written {
            observer.event(Event::Warning(&with_causes(&error)));
        }
        let samples = skipped.iter().map(|one| one.samples as u64).sum();
        if samples > 0 {
            let first = skipped.first();
            observer.event(Event::Skipped { samples, first });
        }
    }
}

/// Whether `metrics.jsonl` has the training line of a step.
fn has_training_line(path: &Path, step: u64) -> bool {
    let text = fs::read(path).unwrap_or_default();
    let is_it = |line: &[u8]| {
        let line = serde_json::from_slice::<Value>(line).unwrap_or_default();
        line["step"].as_u64() == Some(step) && line.get("loss").is_some()
    };
    text.split(|byte| *byte == b'\n').any(is_it)
}

/// The length of the lines of `metrics.jsonl` up to a step.
/// - unevaluated: leave out the step's evaluations.
fn until(path: &Path, step: u64, unevaluated: bool) -> u64 {
    let text = fs::read(path).unwrap_or_default();
    let mut len = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Ok(parsed) = serde_json::from_slice::<Value>(line) else {
            break;
        };
        let of = parsed["step"].as_u64().unwrap_or(u64::MAX);
        let is_evaluation = parsed.get("loss").is_none();
        if of > step || (of == step && unevaluated && is_evaluation) {
            break;
        }
        len += line.len() as u64;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::until;

    #[test]
    fn logs_are_cut_after_a_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = [
            r#"{"step":1,"loss":1.0}"#,
            r#"{"step":2,"loss":1.0}"#,
            r#"{"step":2,"eval/shapes/top1":0.5}"#,
            r#"{"step":3,"loss":1.0}"#,
            r#"{"step":4,"lo"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let len = |lines: &[&str]| lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
        assert_eq!(until(&path, 1, false), len(&lines[..1]));
        assert_eq!(until(&path, 2, true), len(&lines[..2]));
        assert_eq!(until(&path, 2, false), len(&lines[..3]));
        assert_eq!(until(&path, 9, false), len(&lines[..4]));
        assert_eq!(until(&folder.path().join("none"), 9, false), 0);
    }
}
