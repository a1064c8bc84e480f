//! Evaluations between steps, and what they decide.

use std::error::Error;
use std::time::Instant;

use burn::module::Module;
use couplet_data::{Skipped, with_causes};
use couplet_eval::{
    Better, Classification, Encoder, EvalOptions, FeatureCache, Metric, Report, classification,
    retrieval, zero_shot,
};

use super::{TrainError, Trainer, Window};
use couplet_model::ClassifierHead;

use crate::checkpoint::BestState;
use crate::config::{EvalTarget, EvalWeights, ResolvedEval};
use crate::log::eval_line;
use crate::observer::{EpochSummary, Event, Observer};
use crate::trainer::held_out::held_out;

impl Trainer<'_> {
    /// Runs the evaluations that are due after this step. One that fails costs its numbers,
    /// not the run.
    pub(super) fn evaluate(
        &mut self,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Report>, TrainError> {
        let step = self.state.step;
        let is_last = step == self.checked.schedule.total_steps;
        let checked = self.checked;
        let is_due = |every: u64| is_last || step.is_multiple_of(every);
        let mut reports = Vec::new();
        for eval in checked.evals.iter().filter(|eval| is_due(eval.every_steps)) {
            let (encoder, head) = self.encoder(eval.weights)?;
            let model = (&encoder, head.as_ref());
            let (report, skipped) = match self.evaluate_one(eval, model, observer) {
                Ok(outcome) => outcome,
                Err(error) => {
                    let (name, causes) = (eval.name(), with_causes(&*error));
                    let text = format!("step {step}: {name} was not evaluated: {causes}");
                    observer.event(Event::Warning(&text));
                    continue;
                }
            };
            for sample in &skipped {
                if self
                    .reported_unreadable
                    .insert((sample.shard.clone(), sample.key.clone()))
                {
                    observer.event(Event::Warning(&format!("not evaluated: {sample}")));
                }
            }
            let head = self.line_head();
            self.write_metrics(&eval_line(&head, &report), observer)?;
            observer.event(Event::Evaluated {
                step,
                report: &report,
            });
            reports.push(report);
        }
        if !reports.is_empty() {
            // Evaluation's time is not training's.
            self.window = Window::new();
        }
        Ok(reports)
    }

    fn evaluate_one(
        &self,
        eval: &ResolvedEval,
        (encoder, head): (&Encoder, Option<&ClassifierHead>),
        observer: &mut dyn Observer,
    ) -> Result<(Report, Vec<Skipped>), Box<dyn Error>> {
        // A text tower that stays as it is gives the same classes each time.
        let cache = (!self.context.trains_text())
            .then(|| FeatureCache::of_texts(&self.folder.cache(), encoder));
        let options = EvalOptions {
            max_image_pixels: self.checked.config.data.max_image_pixels,
            cache: cache.as_ref(),
        };
        let mut tell = |done, images| {
            observer.event(Event::Evaluating {
                dataset: eval.name(),
                done,
                images,
            });
        };
        let both = |found: Classification| (found.report, found.skipped);
        match &eval.target {
            EvalTarget::ZeroShot(dataset) => {
                let images = dataset.images.len();
                let tell = |done| tell(done, images);
                Ok(both(zero_shot(encoder, dataset, options, tell)?))
            }
            EvalTarget::Classification(dataset) => {
                let images = dataset.images.len();
                let head = head.ok_or("the model has no head")?;
                let tell = |done| tell(done, images);
                Ok(both(classification(encoder, head, dataset, options, tell)?))
            }
            EvalTarget::Retrieval(dataset) => {
                let images = dataset.images.len();
                let tell = |done| tell(done, images);
                Ok(retrieval(encoder, dataset, options, tell)?)
            }
            EvalTarget::HeldOut(data) => {
                let (loss, chunk) = (self.checked.config.loss, self.context.micro_batch);
                Ok(held_out(encoder, data, loss, chunk, tell)?)
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
        let (model, head) = model.split_head();
        let tokenizer = self.checked.data.tokens.tokenizer.clone();
        let encoder = Encoder::new(model, &self.spec, &self.preprocess, tokenizer)?;
        Ok((encoder, head))
    }

    /// Whether one of the reports holds the best value so far.
    pub(super) fn note_best(&mut self, reports: &[Report]) -> bool {
        let Some(wanted) = &self.checked.config.checkpoint.best else {
            return false;
        };
        let metric = reports.iter().find_map(|report| {
            let mut metrics = report.metrics.0.iter();
            metrics.find(|metric| metric.info.logged_as(&report.dataset) == *wanted)
        });
        let Some(&Metric { info, value }) = metric else {
            return false;
        };
        let best = self.state.best.as_ref();
        let best = best.filter(|best| best.metric == *wanted);
        let is_better = |better: Better| {
            // A checkpoint without a number is not the best, even if it is the first.
            !value.is_nan() && best.is_none_or(|best| better.is_better(value, best.value))
        };
        if !info.better.is_some_and(is_better) {
            return false;
        }
        self.state.best = Some(BestState {
            metric: wanted.clone(),
            value,
            step: self.state.step,
        });
        true
    }

    pub(super) fn end_of_epoch(&mut self, reports: Vec<Report>, observer: &mut dyn Observer) {
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
}
