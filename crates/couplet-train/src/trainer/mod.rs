//! The training loop, from the first batch to the last checkpoint.

use std::collections::HashSet;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;
use couplet_data::loader::LoaderState;
use couplet_data::{Skipped, StageTimes};
use couplet_model::{Clip, ForwardContext, ModelSpec, Precision, PreprocessSpec};
use serde::Serialize;

use self::books::Books;
use crate::checkpoint::{Checkpoint, TrainerState};
use crate::config::{Classes, ResolvedRun};
use crate::diagnosis::{Diagnosis, StepStats, duplicate_captions};
use crate::duration::{Duration, Unit};
use crate::ema::Ema;
use crate::feed::Feed;
use crate::log::{LineHead, TrainLine, lines_len, skipped_line};
use crate::observer::{BestMetric, Event, Observer, Outcome, RunSizes, StopReason, StopSignal};
use crate::optimizer::ModelOptimizer;
use crate::overfitting::Overfitting;
use crate::step::{Objective, StepBatch, StepContext, StepNumbers, StepReport, StepSettings, step};

mod agreement;
mod average;
mod begin;
mod books;
mod classes;
mod data_plane;
mod error;
mod evaluation;
mod guard;
mod held_out;
mod open;
mod pending;
mod position;
#[cfg(test)]
mod rank_tests;
mod repeat;
mod save;
mod share;
mod survivor;

pub use begin::{train, train_on_ranks};
pub use books::RunPlace;
pub use error::TrainError;
pub(crate) use repeat::repeat;

/// The period since the last log line.
struct Window {
    start: Instant,
    steps: u64,
    /// Seconds spent waiting for data.
    waited: f64,
}

impl Window {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            steps: 0,
            waited: 0.0,
        }
    }
}

/// A step whose numbers may not be known yet.
struct PendingStep {
    numbers: StepNumbers,
    /// After the step, without a graph.
    logit_scale: Tensor<1>,
    /// Without what is not known yet.
    line: TrainLine,
    duplicate_captions: f64,
    /// Whether the step has a line in the log.
    is_logged: bool,
}

struct Trainer<'a> {
    run: &'a ResolvedRun,
    place: RunPlace<'a>,
    /// Rank 0 alone has them.
    books: Option<Books<'a>>,
    spec: ModelSpec,
    preprocess: PreprocessSpec,
    context: StepContext,
    /// `None` only while a step updates it.
    model: Option<Clip>,
    optimizer: ModelOptimizer,
    ema: Option<Ema>,
    /// The model that the run began with, where `[guard]` may need it.
    start: Option<Clip>,
    diagnosis: Diagnosis,
    overfitting: Overfitting,
    state: TrainerState,
    /// The latest, on rank 0.
    checkpoint: Option<Checkpoint>,
    /// Whether a checkpoint is due, as far as this rank knows.
    due: bool,
    /// What failed on this rank alone since the last agreement.
    held: Option<TrainError>,
    /// The run's ID, by which a survivor knows its folder.
    run_id: String,
    /// Steps whose numbers were not read yet.
    pending: Vec<PendingStep>,
    /// Whether the checkpoint of this step is without the step's evaluations.
    saved_unevaluated: bool,
    /// The latest training line, which a survivor writes if rank 0 did not.
    last_line: Option<TrainLine>,
    /// Bad samples that ended the run, which are not yet in its log.
    unreported: Vec<Skipped>,
    /// How the initial weights were changed.
    notes: Vec<String>,
    /// Samples of the epoch that were skipped, and the first that this process read.
    skipped_in_epoch: u64,
    first_skipped: Option<Skipped>,
    /// Length of `skipped.jsonl`, in bytes; every rank knows it.
    skipped_len: u64,
    /// Samples that evaluations skipped, each of which is reported once.
    reported_unreadable: HashSet<(String, String)>,
    window: Window,
    /// Seconds that this rank waited for its latest batch.
    waited: f64,
    /// Time spent by the loader's threads, up to the last batch.
    loading: StageTimes,
    /// The same, up to the last log line.
    loading_before: StageTimes,
    /// Seconds of training before this process.
    time_before: f64,
    /// When this process began training.
    started: Instant,
    epoch_started: Instant,
    saved_at: Instant,
}

impl Trainer<'_> {
    /// The training loop: steps until the schedule ends or `stop` is set.
    fn run(
        &mut self,
        feed: &Feed,
        stop: &StopSignal,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        self.begin_guard(observer)?;
        if self.state.unevaluated {
            self.end_step(observer)?;
        }
        loop {
            let fetched = self.fetch(feed, stop, observer);
            let agreed = self.agree(fetched, stop.is_set())?;
            if (agreed.stop || agreed.due) && self.state.step > 0 {
                self.save(observer)?;
            }
            let Some(batch) = agreed.batch else {
                return Ok(self.outcome(if self.is_guard_stopped() {
                    StopReason::Guarded
                } else if self.is_finished() {
                    StopReason::Finished
                } else {
                    StopReason::Interrupted
                }));
            };
            self.report_skipped(&agreed.skipped, observer)?;
            self.due = false;
            if self.step(batch, agreed.next, observer)? {
                self.end_step(observer)?;
            }
        }
    }

    /// Evaluates if it is due, and finds out whether a checkpoint is.
    fn end_step(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let (reports, may_be_best) = self.evaluate_guarded(observer)?;
        let improved = may_be_best && self.update_best(&reports);
        self.end_of_epoch(reports, observer)?;
        self.due = improved || self.checkpoint_is_due();
        Ok(())
    }

    fn model(&self) -> &Clip {
        self.model.as_ref().expect("there is a model between steps")
    }

    fn sizes(&self) -> RunSizes {
        RunSizes {
            parameters: self.model().num_params(),
            samples_per_epoch: self.run.data.epoch_len,
            batch_size: self.run.sizes.batch_size,
            steps_per_epoch: self.run.sizes.steps_per_epoch,
            total_steps: self.last_step(),
            epochs: (self.last_step() - self.state.step + self.counted_steps())
                .div_ceil(self.run.sizes.steps_per_epoch),
            log_steps: self.run.log_steps(),
            done_steps: self.state.step,
            device: self.run.config.device.resolved().to_string(),
        }
    }

    /// Seconds of training so far, over all resumes.
    fn seconds(&self) -> f64 {
        self.time_before + self.started.elapsed().as_secs_f64()
    }

    /// Records and reports samples that were skipped for the next batch.
    fn report_skipped(
        &mut self,
        skipped: &[Skipped],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.note_skipped(skipped)?;
        self.skipped_len += lines_len(skipped);
        let samples = skipped.iter().map(|one| one.samples as u64).sum();
        if samples > 0 {
            let first = skipped.first();
            self.skipped_in_epoch += samples;
            if self.first_skipped.is_none() {
                self.first_skipped = first.cloned();
            }
            observer.event(Event::Skipped { samples, first });
        }
        Ok(())
    }

    /// Appends to `skipped.jsonl`.
    fn note_skipped(&mut self, skipped: &[Skipped]) -> Result<(), TrainError> {
        let written = self
            .books
            .as_mut()
            .map_or(Ok(()), |books| books.write_skipped(skipped));
        self.hold(written)
    }

    /// Trains on one batch.
    /// - next: where the data continue after it.
    /// - returns whether the parameters were updated: false if f16 overflowed.
    fn step(
        &mut self,
        batch: StepBatch,
        next: LoaderState,
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        let lr = self.run.schedule.learning_rate(self.scheduled_steps());
        let model = self.model.take().expect("there is a model between steps");
        let forward = ForwardContext {
            seed: self.run.config.seed,
            step: self.state.step,
            first_row: (self.context.comm.rank() * batch.len()) as u64,
        };
        let settings = StepSettings {
            lr,
            loss_scale: self.loss_scale().unwrap_or(1.0),
            // In f16 the next step's scale depends on this one.
            may_run_ahead: self.loss_scale().is_none(),
        };
        let duplicate_captions = match &self.context.objective {
            Objective::Contrast(_) => duplicate_captions(&batch),
            Objective::Classify { .. } => 0.0,
        };
        let optimizer = &mut self.optimizer;
        let (model, numbers) = step(model, optimizer, batch, &forward, settings, &self.context);
        self.model = Some(model);
        let numbers = numbers.map_err(|lost| self.lost(lost))?;
        self.state.position = next;
        self.state.skipped_len = self.skipped_len;
        if let StepNumbers::Known(report) = numbers {
            if self.loss_scale().is_some() {
                self.state.loss_scale.update(report.updated);
            }
            if !report.updated {
                self.overflowed(report, observer)?;
                return Ok(false);
            }
        }
        if let (Some(ema), Some(model)) = (&mut self.ema, &self.model) {
            ema.update(model, self.state.step);
        }
        self.state.step += 1;
        self.state.samples_seen += self.run.sizes.batch_size;
        self.window.steps += 1;
        let is_logged = self.is_finished() || self.state.step.is_multiple_of(self.run.log_steps());
        let is_known = matches!(numbers, StepNumbers::Known(_));
        self.pending.push(PendingStep {
            numbers,
            logit_scale: self.model().logit_scale.val().inner(),
            line: self.line_without_numbers(lr),
            duplicate_captions,
            is_logged,
        });
        if is_known || is_logged || self.lags() {
            self.catch_up(observer)?;
        }
        Ok(true)
    }

    /// The factor on gradients; `None` unless the precision is f16.
    fn loss_scale(&self) -> Option<f64> {
        let is_f16 = self.run.config.precision == Precision::F16;
        is_f16.then_some(self.state.loss_scale.scale)
    }

    /// Handles a step with a loss or gradient that is not finite. In f16 the next step has a smaller
    /// loss scale, and the schedule and the weight average do not advance; in other precisions the
    /// run ends.
    fn overflowed(
        &mut self,
        report: StepReport,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let step = self.state.step + 1;
        let scale = self
            .loss_scale()
            .filter(|_| !self.state.loss_scale.is_exhausted());
        let Some(scale) = scale else {
            if self.loss_scale().is_some() {
                return Err(TrainError::F16Exhausted {
                    step,
                    loss: report.loss,
                    last_good: self.last_good(),
                });
            }
            return Err(self.not_finite(step, report));
        };
        let line = skipped_line(&self.line_head(), scale);
        self.write_metrics(&line, observer)?;
        observer.event(Event::Warning(&format!(
            "fp16 overflowed: step {step} is repeated with the next batch; the loss scale is now \
             {scale}"
        )));
        Ok(())
    }

    /// Sends the warnings that are due after a step.
    fn diagnose(
        &mut self,
        line: &TrainLine,
        duplicate_captions: f64,
        data_wait: Option<(f64, StageTimes)>,
        observer: &mut dyn Observer,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "classes are far below 2^53")]
        let chance_of_classes = |classes: &Classes| (classes.class_names.len() as f64).ln();
        let chance_loss = match &self.context.objective {
            Objective::Contrast(loss) => loss.chance(self.run.config.batch.global),
            Objective::Classify { .. } => self.run.data.classes.as_ref().map(chance_of_classes),
        };
        let warnings = self.diagnosis.observe(&StepStats {
            loss: line.loss,
            chance_loss,
            grad_norm: line.grad_norm,
            logit_scale: line.logit_scale,
            duplicate_captions,
            data_wait,
        });
        for text in warnings {
            observer.event(Event::Warning(&format!("step {}: {text}", line.step)));
        }
    }

    /// Warns that batch norms see one micro-batch at a time.
    fn warn_of_micro_batches(&self, observer: &mut dyn Observer) {
        let (micro, batch) = (self.context.micro_batch, self.run.config.batch.global);
        if self.spec.image.has_batch_norm() && self.context.trains_image() && micro < batch {
            observer.event(Event::Warning(&format!(
                "the ResNet's batch norms compute their statistics over {micro} images (batch.micro); \
                 the gradients are otherwise those of a batch of {batch}{}",
                if self.run.config.batch.micro.is_none() {
                    ". Set batch.micro to train the same model on any number of ranks"
                } else {
                    ""
                }
            )));
        }
    }

    /// Appends a line to the run's logs.
    fn write_metrics(
        &mut self,
        line: &impl Serialize,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let books = self.books.as_mut();
        let written = books.map_or(Ok(()), |books| books.write_metrics(line, observer));
        self.hold(written)
    }

    fn line_head(&self) -> LineHead {
        LineHead {
            step: self.state.step,
            epoch: self.epoch(),
            samples_seen: self.state.samples_seen,
            time: self.seconds(),
        }
    }

    /// The path of the latest checkpoint.
    fn last_good(&self) -> Option<String> {
        let path = |checkpoint: &Checkpoint| checkpoint.path.display().to_string();
        self.checkpoint.as_ref().map(path)
    }

    fn checkpoint_is_due(&self) -> bool {
        let step = self.state.step;
        let is_due = |every: &Duration, step: u64| {
            let steps = every.steps(self.run.sizes);
            steps.is_some_and(|steps| step.is_multiple_of(steps.max(1)))
        };
        self.is_finished()
            || self
                .run
                .config
                .checkpoint
                .every
                .0
                .iter()
                .any(|every| match every.unit {
                    Unit::Minutes => self.saved_at.elapsed().as_secs_f64() >= every.amount * 60.0,
                    Unit::Steps => is_due(every, step),
                    _ => is_due(every, self.counted_steps()),
                })
    }

    fn outcome(&self, ending: StopReason) -> Outcome {
        Outcome {
            ending,
            steps: self.state.step,
            checkpoint: self.checkpoint.clone(),
            best: self.state.best.as_ref().map(|best| BestMetric {
                metric: best.metric.clone(),
                value: best.value,
                step: best.step,
            }),
            seconds: self.seconds(),
        }
    }
}
