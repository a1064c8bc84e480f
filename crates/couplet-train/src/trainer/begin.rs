//! The beginning and the end of a run: what is reported and recorded around the training loop.

use couplet_data::with_causes;
use couplet_eval::token_warnings;

use super::{TrainError, Trainer};
use crate::checkpoint::{RunFolder, TRAIN_LOG};
use crate::config::ResolvedRun;
use crate::log::{LogError, changes_line};
use crate::observer::{Event, Observer, Outcome, StopReason, StopSignal};

/// Trains until the schedule ends or `stop` is set. Continues from the folder's checkpoint if there
/// is one.
///
/// # Errors
/// If reading data or writing files fails, or the loss is not finite; the last checkpoint is
/// unchanged.
pub fn train(
    run: &ResolvedRun,
    folder: &RunFolder,
    stop: &StopSignal,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let mut trainer = Trainer::open(run, folder)?;
    let result = trainer.train(stop, observer);
    let ending = match &result {
        Ok(outcome) => match outcome.ending {
            StopReason::Finished => "finished".to_string(),
            StopReason::Interrupted => "interrupted".to_string(),
            StopReason::AlreadyFinished => return result,
        },
        Err(error) => with_causes(error),
    };
    // The record may be without its end: the run is what counts.
    if let Err(error) = folder.record_end(&ending, trainer.state.step) {
        observer.event(Event::Warning(&with_causes(&error)));
    }
    result
}
impl Trainer<'_> {
    /// Trains from the state that was opened.
    fn train(
        &mut self,
        stop: &StopSignal,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let (run, folder) = (self.run, self.folder);
        let loader = run.data.start_loader(&self.state.position);
        let loader = loader.map_err(TrainError::Threads)?;
        let sizes = self.sizes();
        if !self.is_finished() {
            folder.record_start(run, &sizes)?;
            folder.text_log().open().map_err(|source| LogError {
                path: folder.path().join(TRAIN_LOG),
                source,
            })?;
            observer.event(Event::Opened {
                text_log: folder.text_log(),
                skipped: &folder.skipped(),
            });
        }
        observer.event(Event::Started(&sizes));
        for note in &self.notes {
            observer.event(Event::Note(note));
        }
        self.warn_of_micro_batches(observer);
        for warning in token_warnings(&self.spec, &run.data.tokens) {
            observer.event(Event::Warning(&warning));
        }
        if self.checkpoint.is_none() {
            folder.forget_changes()?;
        }
        for note in folder.notes_from(self.state.step) {
            let line = changes_line(&self.line_head(), &note.changes);
            self.write_metrics(&line, observer)?;
        }
        if self.is_finished() {
            return Ok(self.outcome(StopReason::AlreadyFinished));
        }
        if let Some(warning) = run.memory_warning(self.model(), self.checkpoint.is_some()) {
            observer.event(Event::Warning(&warning));
        }
        let outcome = self.run(&loader, stop, observer);
        outcome.map_err(|error| match error {
            TrainError::Log(source) => TrainError::NotLogged {
                source,
                last_good: self.last_good(),
            },
            error => error,
        })
    }
}
