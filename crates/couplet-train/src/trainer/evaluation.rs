//! Evaluations between steps, and the best checkpoint by their metrics.

use std::error::Error;
use std::time::Instant;

use burn::module::Module;
use couplet_data::{Skipped, with_causes};
use couplet_eval::metric::LOSS;
use couplet_eval::{
    Better, Classification, ConfusionMatrix, Division, Encoder, EvalOptions, FeatureCache, Metric,
    Protocol, Report, classification, retrieval, zero_shot,
};

use super::guard::guard_error;
use super::{TrainError, Trainer, Window};
use couplet_model::{ClassifierHead, Clip};
use couplet_ranks::Team;

use crate::checkpoint::BestState;
use crate::config::{EvalTarget, EvalWeights, MicroBatch, ResolvedEval};
use crate::log::eval_line;
use crate::observer::{EpochSummary, Event, Observer};
use crate::trainer::held_out::held_out;

/// What an evaluation found.
struct Judged {
    report: Report,
    /// Samples that could not be read.
    skipped: Vec<Skipped>,
    confusion: Option<ConfusionMatrix>,
}

impl From<Classification> for Judged {
    fn from(found: Classification) -> Self {
        Self {
            report: found.report,
            skipped: Vec::new(),
            confusion: found.confusion,
        }
    }
}

impl Trainer<'_> {
    /// Runs the evaluations that are due after this step. One that fails is reported as a warning, and
    /// the run continues, unless it is guarded.
    /// - done: those that are done already.
    pub(super) fn evaluate(
        &mut self,
        done: &[Report],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Report>, TrainError> {
        let step = self.state.step;
        let (is_last, counted) = (self.is_finished(), self.counted_steps());
        let run = self.run;
        let is_due = |every: u64| is_last || counted.is_multiple_of(every);
        let is_done = |eval: &ResolvedEval| done.iter().any(|report| report.dataset == eval.name());
        let due = run.evals.iter().filter(|eval| is_due(eval.every_steps));
        let due: Vec<_> = due.filter(|eval| !is_done(eval)).collect();
        if due.is_empty() {
            return Ok(Vec::new());
        }
        self.catch_up(observer)?;
        // If a rank is lost from here on, they are done when the run goes on.
        self.state.unevaluated = true;
        self.settle(Ok(()))?;
        let mut reports = Vec::new();
        for eval in due {
            let (encoder, head) = self.encoder(eval.weights)?;
            let model = (&encoder, head.as_ref());
            let Judged {
                report,
                skipped,
                confusion,
            } = match self.evaluate_one(eval, model, observer) {
                Ok(outcome) => outcome,
                Err(error) => {
                    if let Some(lost) = self.context.comm.team().and_then(Team::lost) {
                        return Err(self.lost(lost));
                    }
                    if self.is_guarded(eval) {
                        return Err(guard_error(eval, error));
                    }
                    let (name, causes) = (eval.name(), with_causes(&*error));
                    let text = format!("step {step}: could not evaluate {name}: {causes}");
                    observer.event(Event::Warning(&text));
                    continue;
                }
            };
            for sample in &skipped {
                if self
                    .reported_unreadable
                    .insert((sample.shard.clone(), sample.key.clone()))
                {
                    observer.event(Event::Warning(&format!("skipped in evaluation: {sample}")));
                }
            }
            let head = self.line_head();
            self.write_metrics(&eval_line(&head, &report), observer)?;
            if let (Some(books), Some(confusion)) = (&mut self.books, &confusion) {
                books.write_confusion(step, &report.dataset, confusion, observer);
            }
            observer.event(Event::Evaluated {
                step,
                report: &report,
            });
            self.watch_held_out(&report, observer);
            reports.push(report);
        }
        // Evaluation does not count towards training speed.
        self.window = Window::new();
        Ok(reports)
    }

    /// Evaluates a model, without a line in the log.
    pub(super) fn judge(
        &self,
        model: &Clip,
        eval: &ResolvedEval,
        observer: &mut dyn Observer,
    ) -> Result<Report, Box<dyn Error + Send + Sync>> {
        let (encoder, head) = self.encoder_of(model.clone())?;
        let judged = self.evaluate_one(eval, (&encoder, head.as_ref()), observer)?;
        Ok(judged.report)
    }

    fn evaluate_one(
        &self,
        eval: &ResolvedEval,
        (encoder, head): (&Encoder, Option<&ClassifierHead>),
        observer: &mut dyn Observer,
    ) -> Result<Judged, Box<dyn Error + Send + Sync>> {
        // A frozen text tower gives the same class features each time.
        let comm = &self.context.comm;
        let folder = self.place.folder().filter(|_| !self.context.trains_text());
        let cache = folder.map(|folder| FeatureCache::of_texts(&folder.cache(), encoder));
        let options = EvalOptions {
            max_image_pixels: self.run.config.data.max_image_pixels,
            cache: cache.as_ref(),
            division: (!comm.is_alone()).then_some(comm as &dyn Division),
        };
        let mut progress = |done, images| {
            observer.event(Event::Evaluating {
                dataset: eval.name(),
                done,
                images,
            });
        };
        match &eval.target {
            EvalTarget::ZeroShot(dataset) => {
                let images = dataset.images.len();
                let progress = |done| progress(done, images);
                Ok(zero_shot(encoder, dataset, options, progress)?.into())
            }
            EvalTarget::Classification(dataset) => {
                let images = dataset.images.len();
                let head = head.ok_or("the model has no head")?;
                let progress = |done| progress(done, images);
                Ok(classification(encoder, head, dataset, options, progress)?.into())
            }
            EvalTarget::Retrieval(dataset) => {
                let images = dataset.images.len();
                let progress = |done| progress(done, images);
                Ok(Judged {
                    report: retrieval(encoder, dataset, options, progress)?,
                    skipped: Vec::new(),
                    confusion: None,
                })
            }
            EvalTarget::HeldOut(data) => {
                // As one rank would encode them.
                let batch = &self.run.config.batch;
                let micro = match batch.micro {
                    Some(MicroBatch::Pairs(pairs)) => pairs,
                    Some(MicroBatch::Auto) => self.context.micro_batch,
                    None => batch.global,
                };
                let loss = (self.run.loss.as_ref(), micro);
                let (report, skipped) = held_out(encoder, data, loss, options.division, progress)?;
                Ok(Judged {
                    report,
                    skipped,
                    confusion: None,
                })
            }
        }
    }

    fn encoder(
        &self,
        weights: EvalWeights,
    ) -> Result<(Encoder, Option<ClassifierHead>), TrainError> {
        let model = match (&self.ema, weights) {
            (Some(ema), EvalWeights::Ema) => ema.model().clone(),
            _ => self.model().valid(),
        };
        self.encoder_of(model)
    }

    /// - model: without autodiff.
    fn encoder_of(&self, model: Clip) -> Result<(Encoder, Option<ClassifierHead>), TrainError> {
        // As checkpoints hold it, so that an evaluation of one finds the same.
        let (model, head) = model.merged().split_head();
        let tokenizer = self.run.data.tokens.tokenizer.clone();
        let encoder = Encoder::new(model, &self.spec, &self.preprocess, tokenizer)?;
        Ok((encoder, head))
    }

    /// Warns if the loss of held-out pairs says that the model is overfitting.
    fn watch_held_out(&mut self, report: &Report, observer: &mut dyn Observer) {
        if report.protocol != Protocol::HeldOut {
            return;
        }
        let Some(loss) = report.metrics.get(LOSS.name) else {
            return;
        };
        let step = self.state.step;
        let keeps_best = self.run.config.checkpoint.best.is_some();
        if let Some(text) = self.overfitting.observe_held_out(step, loss, keeps_best) {
            observer.event(Event::Warning(&format!("step {step}: {text}")));
        }
    }

    /// Records the metric of `checkpoint.best` if a report has its best value so far.
    /// - returns whether it has.
    pub(super) fn update_best(&mut self, reports: &[Report]) -> bool {
        let Some(name) = &self.run.config.checkpoint.best else {
            return false;
        };
        let metric = reports.iter().find_map(|report| {
            let mut metrics = report.metrics.0.iter();
            metrics.find(|metric| metric.info.logged_as(&report.dataset) == *name)
        });
        let Some(&Metric { info, value }) = metric else {
            return false;
        };
        let best = self.state.best.as_ref();
        let best = best.filter(|best| best.metric == *name);
        let is_better = |better: Better| {
            // NaN is never the best, not even as the first value.
            !value.is_nan() && best.is_none_or(|best| better.is_better(value, best.value))
        };
        if !info.better.is_some_and(is_better) {
            return false;
        }
        self.state.best = Some(BestState {
            metric: name.clone(),
            value,
            step: self.state.step,
        });
        true
    }

    /// Reports the epoch's summary after its last step.
    pub(super) fn end_of_epoch(
        &mut self,
        reports: Vec<Report>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let per_epoch = self.run.sizes.steps_per_epoch;
        let counted = self.counted_steps();
        if !counted.is_multiple_of(per_epoch) && !self.is_finished() {
            return Ok(());
        }
        self.catch_up(observer)?;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let steps = (counted.saturating_sub(1) % per_epoch + 1) as f64;
        observer.event(Event::Epoch(&EpochSummary {
            epoch: self.epoch(),
            step: self.state.step,
            loss: self.state.epoch_loss / steps,
            seconds: self.epoch_started.elapsed().as_secs_f64(),
            skipped: std::mem::take(&mut self.skipped_in_epoch),
            first_skipped: self.first_skipped.take(),
            reports,
        }));
        // A run that ends within an epoch may be extended.
        if counted.is_multiple_of(per_epoch) {
            self.state.epoch_loss = 0.0;
        }
        self.epoch_started = Instant::now();
        Ok(())
    }
}
