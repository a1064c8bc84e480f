//! Repeating steps of a run that were done before.

use super::{TrainError, Trainer};
use crate::checkpoint::RunFolder;
use crate::config::ResolvedRun;
use crate::observer::{Event, Observer};

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
    let mut trainer = Trainer::open(run, folder)?;
    let sizes = trainer.sizes();
    observer.event(Event::Started(&sizes));
    let last = trainer.state.step + steps;
    let loader = run.data.start_loader(&trainer.state.position);
    let loader = loader.map_err(TrainError::Threads)?;
    while trainer.state.step < last && !trainer.is_finished() {
        let batch = trainer.next_batch(&loader, observer)?;
        trainer.step(batch, observer)?;
    }
    Ok(sizes.device)
}
