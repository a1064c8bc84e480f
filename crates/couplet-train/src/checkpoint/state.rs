//! The trainer's state in a checkpoint.

use std::collections::HashMap;

use couplet_data::loader::LoaderState;
use serde::{Deserialize, Serialize};

use crate::loss_scale::LossScale;

/// The trainer's state in a checkpoint, without the optimiser's moments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainerState {
    pub step: u64,
    pub samples_seen: u64,
    /// The loader's state at the next batch.
    pub position: LoaderState,
    /// Seconds of training so far, over all resumes.
    pub time: f64,
    /// Sum of the losses of this epoch's steps so far.
    pub epoch_loss: f64,
    pub best: Option<BestState>,
    /// The loss scale; only f16 uses it.
    pub loss_scale: LossScale,
    /// Length of `metrics.jsonl` at this step, in bytes.
    pub metrics_len: u64,
    /// Length of `skipped.jsonl` at this step, in bytes.
    pub skipped_len: u64,
    /// What the steps are counted by; runs of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// The optimiser's number of updates of each parameter.
    pub optimizer_times: HashMap<String, usize>,
}

/// What the steps of a run are counted by. A run that goes on with another batch or other data has
/// other steps from there on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counted {
    pub batch_size: u64,
    pub samples_per_epoch: usize,
    /// A digest of the training data's listing.
    pub data: String,
    /// What is added to `step` to count it in steps of the present size: a run of 10 steps of 8 samples
    /// that goes on with 16 has -5.
    pub shift: i64,
}

/// The best checkpoint so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BestState {
    pub metric: String,
    pub value: f64,
    pub step: u64,
}
