//! The beginning and the end of a run: what is reported and recorded around the training loop.

use couplet_data::with_causes;
use couplet_eval::token_warnings;

use super::books::RunPlace;
use super::{TrainError, Trainer};
use crate::checkpoint::{RunFolder, TRAIN_LOG};
use crate::config::ResolvedRun;
use crate::log::{LogError, changes_line};
use crate::observer::{Event, Observer, Outcome, StopReason, StopSignal};
use crate::ranks::Ranks;

/// Trains until the schedule ends or `stop` is set. Continues from the folder's checkpoint if there
/// is one.
///
/// # Errors
/// If reading data or writing files fails, or the loss is not finite. What was trained until data could not
/// be read is saved; after other errors, the last checkpoint is unchanged.
pub fn train(
    run: &ResolvedRun,
    folder: &RunFolder,
    stop: &StopSignal,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let place = RunPlace::Open(folder);
    train_on_ranks(run, place, &Ranks::alone(), stop, observer)
}

/// The same on several ranks, each of which calls it.
///
/// # Errors
/// As [`train`] on any rank, then on all of them; or if a rank is lost. What was trained until then is saved
/// where a rank that is left can write to the run's folder.
pub fn train_on_ranks(
    run: &ResolvedRun,
    place: RunPlace,
    ranks: &Ranks,
    stop: &StopSignal,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let mut trainer = Trainer::open(run, place, &ranks.0).map_err(|mut error| {
        if let TrainError::RankLost { last_good, .. } | TrainError::OtherRank { last_good, .. } =
            &mut error
        {
            // Nothing was trained: what was there still is.
            *last_good = place.latest();
        }
        error
    })?;
    let mut result = trainer.train(stop, observer);
    if let Err(error) = &mut result {
        trainer.save_what_is_whole(error, observer);
        trainer.report_what_ended_it(observer);
    }
    let ending = match &result {
        Ok(outcome) => match outcome.ending {
            StopReason::Finished => "finished".to_string(),
            StopReason::Interrupted => "interrupted".to_string(),
            StopReason::Guarded => "ended by the guard".to_string(),
            StopReason::AlreadyFinished => return result,
        },
        Err(error) => with_causes(error),
    };
    // The record may be without its end: the run is what counts.
    let recorded = place
        .folder()
        .map(|folder| folder.record_end(&ending, trainer.state.step));
    if let Some(Err(error)) = recorded {
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
        let run = self.run;
        let position = &self.state.position;
        let comm = &self.context.comm;
        let each = run.data.parts(position) / comm.ranks();
        let own = comm.rank() * each..(comm.rank() + 1) * each;
        let feed = (run.data.start_loader_of(position, own)).and_then(|loader| self.feed(loader));
        let feed = feed.map_err(TrainError::Threads);
        let begun = self.begin(observer);
        let (feed, failed) = match feed {
            Ok(feed) => (Some(feed), begun),
            Err(error) => (None, Err(error)),
        };
        self.settle(failed)?;
        let feed = feed.expect("all ranks have started loading");
        if self.has_ended() {
            let ending = if self.is_guard_stopped() {
                StopReason::Guarded
            } else {
                StopReason::AlreadyFinished
            };
            return Ok(self.outcome(ending));
        }
        let outcome = self.run(&feed, stop, observer);
        outcome.map_err(|error| match error {
            TrainError::Log(source) => TrainError::NotLogged {
                source,
                last_good: self.last_good(),
            },
            error => error,
        })
    }

    /// Reports and records the beginning.
    fn begin(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let run = self.run;
        self.resume_guard(observer);
        let folder = self.place.folder();
        let sizes = self.sizes();
        if let Some(folder) = folder.filter(|_| !self.has_ended()) {
            folder.record_start(run, &sizes, &self.context.comm)?;
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
        let Some(folder) = folder else {
            return Ok(());
        };
        if self.checkpoint.is_none() {
            folder.forget_changes()?;
        }
        for note in folder.notes_from(self.state.step) {
            let line = changes_line(&self.line_head(), &note.changes);
            self.write_metrics(&line, observer)?;
        }
        if self.has_ended() {
            return Ok(());
        }
        if !self.context.comm.is_alone() {
            // `couplet plan --ranks` knows what several need.
            return Ok(());
        }
        if let Some(warning) = run.memory_warning(self.model(), self.checkpoint.is_some()) {
            observer.event(Event::Warning(&warning));
        }
        Ok(())
    }
}
