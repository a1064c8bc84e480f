//! The training loop, from the first batch to the last checkpoint.

use std::time::Instant;

use burn::module::Module;
use couplet_data::loader::{HostBatch, Loader, LoaderError, LoaderOptions, Position};
use couplet_data::order::Order;
use couplet_eval::{
    Encoder, MissingTokenizer, OpenError, ZeroShotReport, eval_transform, find_model, zero_shot,
};
use couplet_model::{Clip, FolderError, ModelSpec, PreprocessSpec, TrainPass, load_as};

use crate::checkpoint::{
    BestState, Checkpoint, CheckpointError, Contents, RunFolder, TrainerState,
};
use crate::config::{Checked, OptimizerTable};
use crate::duration::Unit;
use crate::log::{JsonLines, LineHead, LogError, TrainLine, eval_line};
use crate::observer::{Best, Ending, EpochSummary, Event, Observer, Outcome, Plan, StopSignal};
use crate::optimizer::ModelOptimizer;
use crate::step::{StepContext, StepReport, step};

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] LoaderError),
    #[error("cannot start the data loader: {0}")]
    Threads(std::io::Error),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Weights(#[from] FolderError),
    #[error(transparent)]
    Model(#[from] OpenError),
    #[error(transparent)]
    Tokenizer(#[from] MissingTokenizer),
    #[error(
        "step {step}: the loss is {loss} and the gradient norm {grad_norm}; {}. Try a lower \
         optimizer.lr, a longer schedule.warmup, or optimizer.clip_norm = 1.0",
        match last_good { Some(path) => format!("the last good checkpoint is {path}"), None => "there is no checkpoint yet".to_string() }
    )]
    NotFinite {
        step: u64,
        loss: f64,
        grad_norm: f64,
        last_good: Option<String>,
    },
}

/// Trains until the schedule ends or `stop` asks. A folder with a checkpoint is continued
/// from it.
///
/// # Errors
/// If data, disk or arithmetic fail; the last checkpoint stays as it is.
pub fn train(
    checked: &Checked,
    folder: &RunFolder,
    stop: &StopSignal,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let mut run = Run::open(checked, folder)?;
    let loader = run.loader()?;
    observer.event(Event::Started(&run.plan()));
    if run.state.step >= checked.schedule.total_steps {
        return Ok(run.outcome(Ending::AlreadyFinished));
    }
    while run.state.step < checked.schedule.total_steps {
        let batch = run.next_batch(&loader, observer)?;
        run.step(batch, observer)?;
        let reports = run.evaluate(observer)?;
        let improved = run.note_best(&reports);
        run.end_of_epoch(reports, observer);
        let stopping = stop.is_set();
        if improved || stopping || run.checkpoint_is_due() {
            run.save(observer)?;
        }
        if stopping && run.state.step < checked.schedule.total_steps {
            return Ok(run.outcome(Ending::Interrupted));
        }
    }
    Ok(run.outcome(Ending::Finished))
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

struct Run<'a> {
    checked: &'a Checked,
    folder: &'a RunFolder,
    spec: ModelSpec,
    preprocess: PreprocessSpec,
    context: StepContext,
    /// Taken out while a step replaces it.
    model: Option<Clip>,
    optimizer: ModelOptimizer,
    metrics: JsonLines,
    skipped: JsonLines,
    state: TrainerState,
    checkpoint: Option<Checkpoint>,
    window: Window,
    /// Seconds of training before this process, and when it began.
    time_before: f64,
    started: Instant,
    epoch_started: Instant,
    saved_at: Instant,
}

impl<'a> Run<'a> {
    fn open(checked: &'a Checked, folder: &'a RunFolder) -> Result<Self, TrainError> {
        let config = &checked.config;
        let OptimizerTable::AdamW(adamw) = &config.optimizer;
        let mut optimizer = ModelOptimizer::new(adamw);
        let device = checked.device.clone().autodiff();
        let spec = config.model.spec();
        let checkpoint = folder.latest()?;
        let (model, preprocess) = match (&checkpoint, &config.model.weights) {
            (Some(checkpoint), _) => {
                let loaded = couplet_model::load(&checkpoint.path, None, &device)?;
                (loaded.model, loaded.source.preprocess)
            }
            (None, Some(weights)) => {
                let (loaded, resized) = load_as(&find_model(weights)?, &spec, &device)?;
                for change in resized {
                    tracing::info!("resized {change}");
                }
                (loaded.model, loaded.source.preprocess)
            }
            (None, None) => (
                Clip::init(&spec, config.seed, &device),
                PreprocessSpec::default(),
            ),
        };
        let preprocess = config.model.preprocess.clone().unwrap_or(preprocess);
        let state = match &checkpoint {
            Some(checkpoint) => folder.load(checkpoint, &model, &mut optimizer)?,
            None => TrainerState {
                step: 0,
                samples_seen: 0,
                position: Position::default(),
                time: 0.0,
                epoch_loss: 0.0,
                best: None,
                metrics_len: 0,
                skipped_len: 0,
                optimizer_times: std::collections::HashMap::new(),
            },
        };
        let now = Instant::now();
        Ok(Self {
            metrics: JsonLines::open(&folder.metrics(), state.metrics_len)?,
            skipped: JsonLines::open(&folder.skipped(), state.skipped_len)?,
            context: StepContext {
                device,
                loss: config.loss,
                preprocess: preprocess.clone(),
                image_size: spec.image.image_size(),
            },
            time_before: state.time,
            checked,
            folder,
            spec,
            preprocess,
            model: Some(model),
            optimizer,
            state,
            checkpoint,
            window: Window::new(),
            started: now,
            epoch_started: now,
            saved_at: now,
        })
    }

    fn loader(&self) -> Result<Loader, TrainError> {
        let config = &self.checked.config;
        let options = LoaderOptions {
            order: Order {
                len: self.checked.source.len(),
                epoch_len: self.checked.epoch_len,
                resample: config.data.train.resample,
                seed: config.seed,
            },
            batch_size: config.batch.global,
            transform: eval_transform(&self.spec, &self.preprocess)
                .augmented(&config.data.train.augment),
            tokens: self.checked.tokens.clone(),
            max_image_pixels: config.data.max_image_pixels,
            max_skipped: config.data.max_skipped,
            threads: config.data.threads,
        };
        Loader::start(self.checked.source.clone(), options, self.state.position)
            .map_err(TrainError::Threads)
    }

    fn model(&self) -> &Clip {
        self.model.as_ref().expect("there is a model between steps")
    }

    fn plan(&self) -> Plan {
        Plan {
            parameters: self.model().num_params(),
            samples_per_epoch: self.checked.epoch_len,
            batch_size: self.checked.sizes.batch_size,
            steps_per_epoch: self.checked.sizes.steps_per_epoch,
            total_steps: self.checked.schedule.total_steps,
            done_steps: self.state.step,
            device: self.checked.config.device.resolved().to_string(),
        }
    }

    /// The epoch that the last step belongs to, counted from 1.
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
        let skipped = match &batch {
            Ok(batch) => &batch.skipped,
            Err(LoaderError::TooManySkipped { list, .. }) => list,
            Err(_) => return Ok(batch?),
        };
        for sample in skipped {
            self.skipped.write(sample)?;
        }
        if !skipped.is_empty() {
            observer.event(Event::Skipped {
                samples: skipped.len(),
            });
        }
        Ok(batch?)
    }

    fn step(&mut self, batch: HostBatch, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let lr = self.checked.schedule.learning_rate(self.state.step);
        let next = batch.next;
        let model = self.model.take().expect("there is a model between steps");
        let pass = TrainPass {
            seed: self.checked.config.seed,
            step: self.state.step,
            first_row: 0,
        };
        let (model, report) = step(model, &mut self.optimizer, batch, &pass, lr, &self.context);
        self.model = Some(model);
        self.state.step += 1;
        self.state.samples_seen += self.checked.sizes.batch_size;
        self.state.position = next;
        self.state.epoch_loss += report.loss;
        self.window.steps += 1;
        if !report.is_finite() {
            return Err(TrainError::NotFinite {
                step: self.state.step,
                loss: report.loss,
                grad_norm: report.grad_norm,
                last_good: self
                    .checkpoint
                    .as_ref()
                    .map(|c| c.path.display().to_string()),
            });
        }
        let line = self.train_line(report, lr);
        let is_last = self.state.step == self.checked.schedule.total_steps;
        if is_last || self.state.step.is_multiple_of(self.checked.log_steps()) {
            self.metrics.write(&line)?;
            self.window = Window::new();
        }
        observer.event(Event::Step(&line));
        Ok(())
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
        }
    }

    /// Runs the evaluations that are due after this step.
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<Vec<ZeroShotReport>, TrainError> {
        let step = self.state.step;
        let is_last = step == self.checked.schedule.total_steps;
        let mut due = self
            .checked
            .evals
            .iter()
            .filter(|eval| is_last || step.is_multiple_of(eval.every_steps))
            .peekable();
        if due.peek().is_none() {
            return Ok(Vec::new());
        }
        let encoder = Encoder::new(
            self.model().valid(),
            &self.spec,
            &self.preprocess,
            self.checked.tokens.tokenizer.clone(),
        )?;
        let mut reports = Vec::new();
        for eval in due {
            let images = eval.dataset.images.len();
            let max_pixels = self.checked.config.data.max_image_pixels;
            let (report, skipped) = zero_shot(&encoder, &eval.dataset, max_pixels, |done| {
                observer.event(Event::Evaluating {
                    dataset: &eval.dataset.name,
                    done,
                    images,
                });
            })?;
            for sample in &skipped {
                tracing::warn!(file = sample.shard, cause = %sample.cause, "image not evaluated");
            }
            let head = LineHead {
                step,
                epoch: self.epoch(),
                samples_seen: self.state.samples_seen,
                time: self.seconds(),
            };
            self.metrics.write(&eval_line(&head, &report))?;
            observer.event(Event::Evaluated {
                step,
                report: &report,
            });
            reports.push(report);
        }
        // Evaluation's time is not training's.
        self.window = Window::new();
        Ok(reports)
    }

    /// Whether one of the reports holds the best value so far.
    fn note_best(&mut self, reports: &[ZeroShotReport]) -> bool {
        let Some(wanted) = &self.checked.config.checkpoint.best else {
            return false;
        };
        let value = reports.iter().find_map(|report| {
            let mut metrics = report.metrics().into_iter();
            metrics.find(|(metric, _)| format!("eval/{}/{metric}", report.dataset) == *wanted)
        });
        let Some((_, value)) = value else {
            return false;
        };
        if self
            .state
            .best
            .as_ref()
            .is_some_and(|best| best.value >= value)
        {
            return false;
        }
        self.state.best = Some(BestState {
            metric: wanted.clone(),
            value,
            step: self.state.step,
        });
        true
    }

    fn end_of_epoch(&mut self, reports: Vec<ZeroShotReport>, observer: &mut dyn Observer) {
        let per_epoch = self.checked.sizes.steps_per_epoch;
        let is_last = self.state.step == self.checked.schedule.total_steps;
        if !self.state.step.is_multiple_of(per_epoch) && !is_last {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let steps = ((self.state.step - 1) % per_epoch + 1) as f64;
        observer.event(Event::Epoch(&EpochSummary {
            epoch: self.epoch(),
            step: self.state.step,
            loss: self.state.epoch_loss / steps,
            seconds: self.epoch_started.elapsed().as_secs_f64(),
            reports,
        }));
        self.state.epoch_loss = 0.0;
        self.epoch_started = Instant::now();
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
        self.state.time = self.seconds();
        self.state.metrics_len = self.metrics.sync()?;
        self.state.skipped_len = self.skipped.sync()?;
        let contents = Contents {
            model: self.model(),
            spec: &self.spec,
            preprocess: &self.preprocess,
            tokens: &self.checked.tokens,
            optimizer: &self.optimizer,
            state: self.state.clone(),
        };
        let keep = self.checked.config.checkpoint.keep;
        let checkpoint = self.folder.save(&contents, keep)?;
        observer.event(Event::Saved(&checkpoint));
        self.checkpoint = Some(checkpoint);
        self.saved_at = Instant::now();
        Ok(())
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        Outcome {
            ending,
            steps: self.state.step,
            checkpoint: self.checkpoint.clone(),
            best: self.state.best.as_ref().map(|best| Best {
                metric: best.metric.clone(),
                value: best.value,
                step: best.step,
            }),
            seconds: self.seconds(),
        }
    }
}
