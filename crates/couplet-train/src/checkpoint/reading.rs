//! Reading a checkpoint that training continues from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use couplet_eval::{EMA_WEIGHTS_FILE, TRAINER_STATE_FILE};
use couplet_model::weights;
use couplet_model::{ClassifierHead, Clip};

use super::error::{CheckpointError, io_at};
use super::names::{OPTIMIZER_FILE, START_FILE};
use super::state::{StateError, TrainerState};
use crate::optimizer::ModelOptimizer;

/// A complete checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub step: u64,
}

impl Checkpoint {
    /// Loads the model with averaged weights, which a run with `[ema]` saves.
    pub(crate) fn load_ema(&self, device: &Device) -> Result<Clip, CheckpointError> {
        let path = self.path.join(EMA_WEIGHTS_FILE);
        Ok(couplet_model::load(&path, None, device)?.model)
    }

    /// Loads the classification head, which a run with `[classify]` saves.
    /// - name: `HEAD_FILE` or `EMA_HEAD_FILE`.
    pub(crate) fn load_head(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<ClassifierHead, CheckpointError> {
        Ok(ClassifierHead::load(&self.path.join(name), device)?.0)
    }

    /// The model that the run began with.
    /// - model: of the run, without autodiff.
    pub(crate) fn load_start(&self, model: Clip) -> Result<Clip, CheckpointError> {
        let path = self.path.join(START_FILE);
        Ok(weights::fill(model, weights::read(&path)?.tensors, &path)?)
    }

    /// The micro-batch that the run found to fit, if it looked for one. What is wrong with the file is said when the whole
    /// state is read.
    pub(crate) fn micro_batch(&self) -> Option<usize> {
        let state = TrainerState::read(&self.path.join(TRAINER_STATE_FILE));
        state.ok()?.micro_batch
    }

    /// Reads the trainer's state and the optimiser's moments.
    pub(crate) fn load_state(
        &self,
        model: &Clip,
        optimizer: &mut ModelOptimizer,
    ) -> Result<TrainerState, CheckpointError> {
        let path = self.path.join(TRAINER_STATE_FILE);
        let damaged = |path, message| CheckpointError::Damaged {
            path,
            message,
            source: None,
        };
        let state =
            TrainerState::read(&path).map_err(|StateError(message)| damaged(path, message))?;
        let path = self.path.join(OPTIMIZER_FILE);
        let moments = weights::read(&path)?.tensors;
        optimizer
            .load(model, moments, &state.optimizer_times)
            .map_err(|message| damaged(path, message))?;
        Ok(state)
    }
}

/// The bytes of a log that training goes on from: `len`, or its whole lines if it was cut.
pub(crate) fn whole_lines(path: &Path, len: u64) -> Result<u64, CheckpointError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() >= len => return Ok(len),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(path)(error)),
        Err(_) => return Ok(0),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(io_at(path))?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    Ok(end.map_or(0, |end| end as u64 + 1))
}
