//! The training loop, from the first batch to the last checkpoint.

use std::collections::HashSet;
use std::time::Instant;

use burn::module::Module;
use couplet_data::loader::{HostBatch, Loader, LoaderError};
use couplet_data::{StageTimes, with_causes};
use couplet_loss::Loss;
use couplet_model::{Clip, ForwardContext, ModelSpec, Precision, PreprocessSpec};
use serde::Serialize;

use crate::checkpoint::{Checkpoint, Contents, RunFolder, TrainerState};
use crate::config::ResolvedRun;
use crate::diagnosis::{Diagnosis, Vitals, copied_captions};
use crate::duration::Unit;
use crate::ema::Ema;
use crate::log::{JsonLines, LineHead, LogError, TrainLine, skipped_line};
use crate::observer::{BestMetric, Event, Observer, Outcome, RunSizes, StopReason, StopSignal};
use crate::optimizer::ModelOptimizer;
use crate::step::{Objective, StepContext, StepReport, StepSettings, step};
use crate::tensorboard::EventFile;

mod classes;
mod error;
mod evaluation;
mod held_out;
mod open;

pub use error::TrainError;

/// Trains until the schedule ends or `stop` is set. Continues from the folder's checkpoint if there
/// is one.
///
/// # Errors
/// If data, disk or arithmetic fail; the last checkpoint is unchanged.
pub fn train(
    checked: &ResolvedRun,
    folder: &RunFolder,
    stop: &StopSignal,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let mut trainer = Trainer::open(checked, folder)?;
    let loader = checked.data.start_loader(trainer.state.position.clone());
    let loader = loader.map_err(TrainError::Threads)?;
    observer.event(Event::Started(&trainer.sizes()));
    for note in &trainer.notes {
        observer.event(Event::Note(note));
    }
    trainer.warn_of_micro_batches(observer);
    if trainer.state.step >= checked.schedule.total_steps {
        return Ok(trainer.outcome(StopReason::AlreadyFinished));
    }
    if let Some(warning) = checked.memory_warning(trainer.model(), trainer.checkpoint.is_some()) {
        observer.event(Event::Warning(&warning));
    }
    let outcome = trainer.run(&loader, stop, observer);
    outcome.map_err(|error| match error {
        TrainError::Log(source) => TrainError::NotLogged {
            source,
            last_good: trainer.last_good(),
        },
        error => error,
    })
}

/// Time since the line before, and how much of it was spent waiting for data.
struct Window {
    start: Instant,
    steps: u64,
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

struct Trainer<'a> {
    checked: &'a ResolvedRun,
    folder: &'a RunFolder,
    spec: ModelSpec,
    preprocess: PreprocessSpec,
    context: StepContext,
    /// `None` while a step replaces it.
    model: Option<Clip>,
    optimizer: ModelOptimizer,
    ema: Option<Ema>,
    diagnosis: Diagnosis,
    metrics: JsonLines,
    events: Option<EventFile>,
    skipped: JsonLines,
    state: TrainerState,
    checkpoint: Option<Checkpoint>,
    /// How the initial weights were changed.
    notes: Vec<String>,
    /// Samples that an evaluation could not read, each of which is reported once.
    reported_unreadable: HashSet<(String, String)>,
    window: Window,
    /// The time that the loader's threads had spent at the last batch.
    loading: StageTimes,
    /// The same when the last line was written.
    loading_before: StageTimes,
    /// Seconds of training before this process, and when it began.
    time_before: f64,
    started: Instant,
    epoch_started: Instant,
    saved_at: Instant,
}

impl Trainer<'_> {
    /// The training loop: steps until the schedule ends or `stop` is set.
    fn run(
        &mut self,
        loader: &Loader,
        stop: &StopSignal,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        while self.state.step < self.checked.schedule.total_steps {
            let batch = self.next_batch(loader, observer)?;
            let updated = self.step(batch, observer)?;
            let mut improved = false;
            if updated {
                let reports = self.evaluate(observer)?;
                improved = self.note_best(&reports);
                self.end_of_epoch(reports, observer);
            }
            let stopping = self.context.comm.any(stop.is_set());
            if improved || stopping || (updated && self.checkpoint_is_due()) {
                self.save(observer)?;
            }
            if stopping && self.state.step < self.checked.schedule.total_steps {
                return Ok(self.outcome(StopReason::Interrupted));
            }
        }
        Ok(self.outcome(StopReason::Finished))
    }

    fn model(&self) -> &Clip {
        self.model.as_ref().expect("there is a model between steps")
    }

    fn sizes(&self) -> RunSizes {
        RunSizes {
            parameters: self.model().num_params(),
            samples_per_epoch: self.checked.data.epoch_len,
            batch_size: self.checked.sizes.batch_size,
            steps_per_epoch: self.checked.sizes.steps_per_epoch,
            total_steps: self.checked.schedule.total_steps,
            log_steps: self.checked.log_steps(),
            done_steps: self.state.step,
            device: self.checked.config.device.resolved().to_string(),
        }
    }

    /// The epoch of the last step, counted from 1.
    fn epoch(&self) -> u64 {
        self.state.step.saturating_sub(1) / self.checked.sizes.steps_per_epoch + 1
    }

    fn seconds(&self) -> f64 {
        self.time_before + self.started.elapsed().as_secs_f64()
    }

    fn next_batch(
        &mut self,
        loader: &Loader,
        observer: &mut dyn Observer,
    ) -> Result<HostBatch, TrainError> {
        let waiting = Instant::now();
        let batch = loader.next_batch();
        self.window.waited += waiting.elapsed().as_secs_f64();
        self.loading = loader.stage_times();
        let skipped = match &batch {
            Ok(batch) => &batch.skipped,
            Err(LoaderError::TooManySkipped { list, .. }) => list,
            Err(_) => return Ok(batch?),
        };
        for sample in skipped {
            self.skipped.write(sample)?;
        }
        let samples = skipped.iter().map(|one| one.samples as u64).sum();
        let samples = self.context.comm.count(samples);
        if samples > 0 {
            observer.event(Event::Skipped { samples });
        }
        Ok(batch?)
    }

    /// - returns whether the parameters were updated: not if f16 overflowed.
    fn step(&mut self, batch: HostBatch, observer: &mut dyn Observer) -> Result<bool, TrainError> {
        let lr = self.checked.schedule.learning_rate(self.state.step);
        let model = self.model.take().expect("there is a model between steps");
        let forward = ForwardContext {
            seed: self.checked.config.seed,
            step: self.state.step,
            first_row: (self.context.comm.rank() * batch.len()) as u64,
        };
        let settings = StepSettings {
            lr,
            loss_scale: self.loss_scale().unwrap_or(1.0),
        };
        let next = batch.next.clone();
        let copied_captions = match self.context.objective {
            Objective::Contrast(_) => copied_captions(&batch),
            Objective::Classify { .. } => 0.0,
        };
        let optimizer = &mut self.optimizer;
        let (model, report) = step(model, optimizer, batch, &forward, settings, &self.context);
        self.model = Some(model);
        self.state.position = next;
        self.state.loss_scale.note(report.updated);
        if !report.updated {
            self.overflowed(report, observer)?;
            return Ok(false);
        }
        if let (Some(ema), Some(model)) = (&mut self.ema, &self.model) {
            ema.update(model, self.state.step);
        }
        self.state.step += 1;
        self.state.samples_seen += self.checked.sizes.batch_size;
        self.state.epoch_loss += report.loss;
        self.window.steps += 1;
        let line = self.train_line(report, lr);
        let mut data_wait = None;
        let is_last = self.state.step == self.checked.schedule.total_steps;
        if is_last || self.state.step.is_multiple_of(self.checked.log_steps()) {
            self.write_metrics(&line, observer)?;
            data_wait = Some((line.data_wait, self.loading.since(&self.loading_before)));
            self.loading_before = self.loading;
            self.window = Window::new();
        }
        observer.event(Event::Step(&line));
        self.diagnose(&line, copied_captions, data_wait, observer);
        Ok(true)
    }

    /// The factor on f16's gradients.
    fn loss_scale(&self) -> Option<f64> {
        let is_f16 = self.checked.config.precision == Precision::F16;
        is_f16.then_some(self.state.loss_scale.scale)
    }

    /// Handles a step whose numbers are not finite. In f16 the next step has a smaller loss scale,
    /// and neither schedule nor average advance; in other precisions the run ends.
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
            return Err(TrainError::NotFinite {
                step,
                loss: report.loss,
                grad_norm: report.grad_norm,
                last_good: self.last_good(),
            });
        };
        let line = skipped_line(&self.line_head(), scale);
        self.write_metrics(&line, observer)?;
        observer.event(Event::Warning(&format!(
            "f16 overflowed: step {step} is skipped and tried again with the next batch, the \
             loss scale is {scale} now"
        )));
        Ok(())
    }

    fn diagnose(
        &mut self,
        line: &TrainLine,
        copied_captions: f64,
        data_wait: Option<(f64, StageTimes)>,
        observer: &mut dyn Observer,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
        let choices = match &self.checked.data.classes {
            Some(classes) => classes.class_names.len() as f64,
            None => self.checked.sizes.batch_size as f64,
        };
        let is_pairwise = matches!(
            self.context.objective,
            Objective::Contrast(Loss::Sigmoid(_))
        );
        let words = self.diagnosis.observe(&Vitals {
            loss: line.loss,
            chance_loss: (!is_pairwise).then_some(choices.ln()),
            grad_norm: line.grad_norm,
            logit_scale: line.logit_scale,
            copied_captions,
            data_wait,
        });
        for text in words {
            observer.event(Event::Warning(&format!("step {}: {text}", line.step)));
        }
    }

    /// Batch norms read a micro-batch, not the batch.
    fn warn_of_micro_batches(&self, observer: &mut dyn Observer) {
        let (micro, batch) = (self.context.micro_batch, self.checked.config.batch.global);
        if self.spec.image.has_batch_norm() && self.context.trains_image() && micro < batch {
            observer.event(Event::Warning(&format!(
                "the ResNet's batch norms see batch.micro = {micro} images at once: gradients are \
                 those of a batch of {batch} but for their statistics"
            )));
        }
    }

    /// Appends a line to `metrics.jsonl` and its numbers to the event file. An error of the event
    /// file does not end the run.
    fn write_metrics(
        &mut self,
        line: &impl Serialize,
        observer: &mut dyn Observer,
    ) -> Result<(), LogError> {
        self.metrics.write(line)?;
        let line = serde_json::to_value(line).expect("log lines have a JSON form");
        let written = self.events.as_mut().map(|events| events.write(&line));
        if let Some(Err(error)) = written {
            self.events = None;
            let text = format!(
                "no more TensorBoard events are written: {}",
                with_causes(&error)
            );
            observer.event(Event::Warning(&text));
        }
        Ok(())
    }

    fn line_head(&self) -> LineHead {
        LineHead {
            step: self.state.step,
            epoch: self.epoch(),
            samples_seen: self.state.samples_seen,
            time: self.seconds(),
        }
    }

    fn last_good(&self) -> Option<String> {
        let path = |checkpoint: &Checkpoint| checkpoint.path.display().to_string();
        self.checkpoint.as_ref().map(path)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn train_line(&self, report: StepReport, lr: f64) -> TrainLine {
        let seconds = self.window.start.elapsed().as_secs_f64();
        let samples = self.window.steps * self.checked.sizes.batch_size;
        let logit_scale: f32 = self.model().logit_scale.val().exp().into_scalar();
        TrainLine {
            step: self.state.step,
            epoch: self.epoch(),
            samples_seen: self.state.samples_seen,
            time: self.seconds(),
            loss: report.loss,
            lr,
            logit_scale: f64::from(logit_scale),
            grad_norm: report.grad_norm,
            samples_per_second: samples as f64 / seconds.max(1e-9),
            data_wait: self.window.waited / seconds.max(1e-9),
            loss_scale: self.loss_scale(),
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        let step = self.state.step;
        step == self.checked.schedule.total_steps
            || self
                .checked
                .config
                .checkpoint
                .every
                .0
                .iter()
                .any(|every| match every.unit {
                    Unit::Minutes => self.saved_at.elapsed().as_secs_f64() >= every.amount * 60.0,
                    _ => every
                        .steps(self.checked.sizes)
                        .is_some_and(|steps| step.is_multiple_of(steps.max(1))),
                })
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let is_saved = |checkpoint: &Checkpoint| checkpoint.step == self.state.step;
        if self.checkpoint.as_ref().is_some_and(is_saved) {
            // Only batches that f16 skipped came since; a resumed run skips them again.
            return Ok(());
        }
        self.state.time = self.seconds();
        self.state.metrics_len = self.metrics.sync()?;
        self.state.skipped_len = self.skipped.sync()?;
        let contents = Contents {
            model: self.model(),
            spec: &self.spec,
            preprocess: &self.preprocess,
            tokens: &self.checked.data.tokens,
            optimizer: &self.optimizer,
            ema: self.ema.as_ref().map(Ema::model),
            judged: self.checked.eval_weights(),
            classes: self.checked.data.classes.as_ref(),
            state: self.state.clone(),
        };
        let keep = self.checked.config.checkpoint.keep;
        let saved = self.folder.save(&contents, keep);
        let checkpoint = saved.map_err(|source| TrainError::NotSaved {
            step: self.state.step,
            source: Box::new(source),
            last_good: self.last_good(),
        })?;
        observer.event(Event::Saved(&checkpoint));
        self.checkpoint = Some(checkpoint);
        self.saved_at = Instant::now();
        Ok(())
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
