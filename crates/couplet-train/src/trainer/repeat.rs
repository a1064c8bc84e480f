//! Repeating steps of a run that were done before.

use super::books::RunPlace;
use super::{TrainError, Trainer};
use crate::checkpoint::RunFolder;
use crate::comm::Comm;
use crate::config::ResolvedRun;
use crate::observer::{Event, Observer, StopSignal};

/// Trains for `steps` steps from the folder's checkpoint, without evaluations and checkpoints.
/// - returns the device, as configs name it.
///
/// # Errors
/// As [`super::train`].
pub(crate) fn repeat(
    run: &ResolvedRun,
    folder: &RunFolder,
    steps: u64,
    observer: &mut dyn Observer,
) -> Result<String, TrainError> {
    let mut trainer = Trainer::open(run, RunPlace::Open(folder), &Comm::alone())?;
    // It went on.
    trainer.state.guard_stop = None;
    let sizes = trainer.sizes();
    observer.event(Event::Started(&sizes));
    let last = trainer.state.step + steps;
    let loader = run.data.start_loader(&trainer.state.position);
    let feed = loader.and_then(|loader| trainer.feed(loader));
    let feed = feed.map_err(TrainError::Threads)?;
    let stop = StopSignal::default();
    while trainer.state.step < last && !trainer.is_finished() {
        let fetched = trainer.fetch(&feed, &stop, observer);
        let agreed = trainer.agree(fetched, false)?;
        trainer.report_skipped(&agreed.skipped, observer)?;
        let batch = agreed.batch.expect("the run goes on");
        trainer.step(batch, agreed.next, observer)?;
    }
    trainer.catch_up(observer)?;
    Ok(sizes.device)
}
