//! Where the average of a run's weights starts.

use burn::module::Module;
use burn::tensor::Device;
use couplet_eval::EMA_HEAD_FILE;
use couplet_model::Clip;

use super::TrainError;
use crate::checkpoint::{Checkpoint, UpdatesOf};
use crate::config::ResolvedRun;

/// The average so far, with its head if the model has one; of a new run, the model.
/// - device: the model's; returns a model on it, without autodiff.
pub(super) fn start_of_average(
    run: &ResolvedRun,
    checkpoint: Option<&Checkpoint>,
    model: &Clip,
    device: &Device,
) -> Result<Clip, TrainError> {
    let Some(checkpoint) = checkpoint else {
        return Ok(model.valid());
    };
    let device = device.clone().without_autodiff();
    let mut average = checkpoint.load_ema(&device)?;
    if run.adaptation.is_some() {
        average = checkpoint.load_updates(run.trained(average), UpdatesOf::Average)?;
    }
    Ok(match model.head() {
        Some(_) => average.with_head(checkpoint.load_head(EMA_HEAD_FILE, &device)?),
        None => average,
    })
}
