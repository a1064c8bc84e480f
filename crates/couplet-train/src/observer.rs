//! What a run tells while it goes on and when it ends, and how it is asked to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use couplet_eval::Report;

use crate::checkpoint::Checkpoint;
use crate::log::TrainLine;

/// Asks a run to stop at the end of its step.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Asks. Safe to call from a signal handler's thread.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    Started(&'a RunSizes),
    /// After every step.
    Step(&'a TrainLine),
    /// While a dataset is being evaluated.
    Evaluating {
        dataset: &'a str,
        done: usize,
        images: usize,
    },
    /// After every epoch, its evaluations included.
    Epoch(&'a EpochSummary),
    /// After an evaluation inside an epoch.
    Evaluated {
        step: u64,
        report: &'a Report,
    },
    Saved(&'a Checkpoint),
    /// Samples that could not be used, on the way to this step.
    Skipped {
        samples: u64,
    },
    /// Something that a person may want to know.
    Note(&'a str),
    /// Something that a person should know.
    Warning(&'a str),
}

/// Listens to a run.
pub trait Observer {
    fn event(&mut self, event: Event);
}

/// An observer that says nothing.
#[derive(Debug)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn event(&mut self, _event: Event) {}
}

/// The sizes of a run, known before its first step.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSizes {
    pub parameters: usize,
    pub samples_per_epoch: usize,
    pub batch_size: u64,
    pub steps_per_epoch: u64,
    pub total_steps: u64,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_steps: u64,
    /// Steps that a resumed run has behind it.
    pub done_steps: u64,
    pub device: String,
}

/// One epoch in a line.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochSummary {
    /// Counted from 1.
    pub epoch: u64,
    pub step: u64,
    /// Mean over the epoch's steps.
    pub loss: f64,
    pub seconds: f64,
    pub reports: Vec<Report>,
}

/// The best value of the metric that `checkpoint.best` names.
#[derive(Debug, Clone, PartialEq)]
pub struct BestMetric {
    /// As `metrics.jsonl` has it.
    pub metric: String,
    pub value: f64,
    pub step: u64,
}

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Finished,
    /// Stopped when asked; to be resumed.
    Interrupted,
    /// There was nothing left to do.
    AlreadyFinished,
}

/// What a run leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub ending: StopReason,
    pub steps: u64,
    pub checkpoint: Option<Checkpoint>,
    pub best: Option<BestMetric>,
    /// Seconds of training, over all resumes.
    pub seconds: f64,
}
