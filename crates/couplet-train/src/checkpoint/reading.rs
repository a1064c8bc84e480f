//! Reading a checkpoint that training continues from.

use std::path::PathBuf;

use burn::tensor::Device;
use couplet_eval::{EMA_WEIGHTS_FILE, TRAINER_STATE_FILE};
use couplet_model::weights;
use couplet_model::{ClassifierHead, Clip};

use super::error::CheckpointError;
use super::names::OPTIMIZER_FILE;
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
