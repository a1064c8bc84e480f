//! Errors of a run.

use couplet_data::Skipped;
use couplet_data::loader::LoaderError;
use couplet_eval::{ClassifierError, DivisionError, OpenError, TextError};
use couplet_model::FolderError;
use couplet_ranks::Lost;

use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;
use crate::log::LogError;
use crate::plan::FitError;
use crate::ranks::OtherRank;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] LoaderError),
    #[error("[data.val]: fewer than two pairs can be used{}", example(.0.as_ref()))]
    NothingHeldOut(Option<Skipped>),
    #[error(
        "[data.val]: the loss of the held-out pairs is {loss}: the model's features or its logit_scale are \
         NaN or infinite; check its weights, and try `precision = \"fp32\"` if they overflow in half precision"
    )]
    HeldOutNotFinite { loss: f64 },
    #[error("guard.datasets: {dataset} cannot be evaluated")]
    Guard {
        dataset: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Division(#[from] DivisionError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error("cannot start the threads of the data loader")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "step {step} could not be saved; {}. Make sure that the folder is where it was and that the disk \
         has space, and continue with --resume",
        resume_point(last_good.as_deref())
    )]
    NotSaved {
        step: u64,
        source: Box<CheckpointError>,
        last_good: Option<String>,
    },
    #[error(
        "the checkpoint reads shard number {}, but the data has {shards} shards; continue with the data \
         that the run began with", last + 1
    )]
    NoSuchShard { last: usize, shards: usize },
    #[error(
        "batch.parts: {set}, but the run's batches have had {run} parts so far, each with its own place in the \
         data; remove batch.parts, or set it once an epoch is over, or start a new run with --run-dir"
    )]
    OtherParts { set: usize, run: usize },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the run's log could not be written; {}. Make sure that the folder is where it was and that \
         the disk has space, and continue with --resume",
        resume_point(last_good.as_deref())
    )]
    NotLogged {
        source: LogError,
        last_good: Option<String>,
    },
    #[error(
        "schedule.length: `{length}` is {total} steps, but the run has trained {trained} already; set a \
         length of at least {trained} steps, or start a new run with --run-dir"
    )]
    TooShort {
        length: String,
        total: u64,
        trained: u64,
    },
    #[error("{failure}; {}", resume_point(last_good.as_deref()))]
    OtherRank {
        failure: OtherRank,
        last_good: Option<String>,
    },
    #[error("a rank was lost: {lost}; {}. Continue with --resume", resume_point(last_good.as_deref()))]
    RankLost {
        lost: Lost,
        last_good: Option<String>,
    },
    #[error(
        "{who} has another {name} than rank 0 after step {step}: the ranks' models differ, by a fault of a machine or \
         of Couplet; {}. Continue with --resume without that machine",
        resume_point(last_good.as_deref())
    )]
    Diverged {
        who: String,
        /// Of the parameter.
        name: String,
        step: u64,
        last_good: Option<String>,
    },
    #[error(
        "{who} has another {what} than rank 0; all ranks must be given the same command, files and data"
    )]
    Unequal { who: String, what: &'static str },
    #[error(
        "a batch has {parts} parts (batch.parts), which {ranks} ranks cannot share equally; start {possible} ranks, or \
         set another batch.parts for a new run"
    )]
    Indivisible {
        parts: usize,
        ranks: usize,
        /// Numbers of ranks.
        possible: String,
    },
    #[error(
        "batch.micro = {micro} does not divide the {own} images of each of {ranks} ranks, so the batch norms would see \
         other images than with one rank; set a divisor of {own}"
    )]
    UnevenNorms {
        micro: usize,
        own: usize,
        ranks: usize,
    },
    #[error(
        "the ranks are at other places in the data; this is a bug of Couplet, please report it"
    )]
    OtherPlaces,
    #[error("ranks.data: `nccl`, but {0}; set \"auto\" or \"host\" to do without NCCL")]
    NoNccl(OtherRank),
    #[error(
        "ranks.data: NCCL cannot join the ranks' GPUs: {0}; give each rank a GPU of its own, or set \"host\" to do \
         without NCCL"
    )]
    NcclFailed(String),
    #[error("device: cannot be used")]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Weights(#[from] FolderError),
    #[error(transparent)]
    Model(#[from] OpenError),
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(
        "step {step}: the loss is {loss} and the gradient norm {grad_norm}; {}. Try a lower \
         `optimizer.lr`, a longer `schedule.warmup` or `optimizer.clip_norm = 1.0`",
        resume_point(last_good.as_deref())
    )]
    NotFinite {
        step: u64,
        loss: f64,
        grad_norm: f64,
        last_good: Option<String>,
    },
    #[error(
        "step {step}: fp16 overflows at any loss scale (the loss is {loss}); {}. Try \
         `precision = \"bf16\"`, which has the range of fp32, or a lower `optimizer.lr`",
        resume_point(last_good.as_deref())
    )]
    F16Exhausted {
        step: u64,
        loss: f64,
        last_good: Option<String>,
    },
}

fn example(bad: Option<&Skipped>) -> String {
    bad.map_or(String::new(), |one| {
        format!(", such as {} of {}: {}", one.key, one.shard, one.detail)
    })
}

/// The checkpoint from which a failed run can resume.
fn resume_point(last_good: Option<&str>) -> String {
    match last_good {
        Some(path) => format!("the last good checkpoint is {path}"),
        None => "there is no checkpoint yet".to_string(),
    }
}
