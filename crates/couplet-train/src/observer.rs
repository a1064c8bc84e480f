//! Events and results of a run, and the signal to stop it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use couplet_data::Skipped;
use couplet_eval::Report;

use crate::checkpoint::Checkpoint;
use crate::log::TrainLine;
use crate::text_log::TextLog;

/// Requests that a run stop at the end of its step.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Requests the stop. Safe to call from a signal handler's thread.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was requested.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// An event of a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run begins: from here on its folder is written to.
    Opened {
        /// Takes what is printed of the run.
        text_log: &'a TextLog,
        /// The path of `skipped.jsonl`.
        skipped: &'a Path,
    },
    /// Before the first step.
    Started(&'a RunSizes),
    /// After every step.
    Step(&'a TrainLine),
    /// During an evaluation: `done` of `images` images are encoded.
    Evaluating {
        dataset: &'a str,
        done: usize,
        images: usize,
    },
    /// After every epoch and its evaluations.
    Epoch(&'a EpochSummary),
    /// After every evaluation.
    Evaluated { step: u64, report: &'a Report },
    /// After a checkpoint was written.
    Saved(&'a Checkpoint),
    /// Samples that were skipped while loading this step's batch.
    Skipped {
        samples: u64,
        /// The first of them that this process read.
        first: Option<&'a Skipped>,
    },
    /// Information for the user, such as how initial weights were changed.
    Note(&'a str),
    /// A problem that the user should know of; the run continues.
    Warning(&'a str),
}

/// Receives the events of a run.
pub trait Observer {
    fn event(&mut self, event: Event);
}

/// An observer that ignores all events.
#[derive(Debug)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn event(&mut self, _event: Event) {}
}

/// The sizes of a run, known before its first step.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSizes {
    /// Parameters of the model, trained or not.
    pub parameters: usize,
    pub samples_per_epoch: usize,
    /// Samples per step, over all ranks.
    pub batch_size: u64,
    pub steps_per_epoch: u64,
    pub total_steps: u64,
    /// Epochs of the whole run, the last of which may be cut off.
    pub epochs: u64,
    /// Steps between training lines of `metrics.jsonl`.
    pub log_steps: u64,
    /// Steps completed before this process; 0 in a new run.
    pub done_steps: u64,
    /// The device, as configs name it.
    pub device: String,
}

/// The summary of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochSummary {
    /// Counted from 1.
    pub epoch: u64,
    pub step: u64,
    /// Mean loss of the epoch's steps.
    pub loss: f64,
    /// Duration of the epoch in this process, evaluations included.
    pub seconds: f64,
    /// Samples of the epoch that were skipped.
    pub skipped: u64,
    /// The first of them, if this process read it.
    pub first_skipped: Option<Skipped>,
    /// The evaluations after the epoch's last step.
    pub reports: Vec<Report>,
}

/// The best value of the metric that `checkpoint.best` names.
#[derive(Debug, Clone, PartialEq)]
pub struct BestMetric {
    /// Its key in `metrics.jsonl`.
    pub metric: String,
    pub value: f64,
    pub step: u64,
}

/// Why a run ended, if not by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// All steps are done.
    Finished,
    /// Ended by `[guard]`, now or before.
    Guarded,
    /// Stopped by a [`StopSignal`]; can be resumed.
    Interrupted,
    /// All steps had been done before.
    AlreadyFinished,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub ending: StopReason,
    /// Steps so far, over all resumes.
    pub steps: u64,
    /// The latest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    pub best: Option<BestMetric>,
    /// Seconds of training, over all resumes.
    pub seconds: f64,
}
