//! Evaluations between steps, and what they decide.

use std::time::Instant;

use burn::module::Module;
use couplet_eval::{Encoder, ZeroShotReport, zero_shot};

use super::{Run, TrainError, Window};
use crate::checkpoint::BestState;
use crate::config::EvalWeights;
use crate::log::eval_line;
use crate::observer::{EpochSummary, Event, Observer};

impl Run<'_> {
    /// Runs the evaluations that are due after this step.
    pub(super) fn evaluate(
        &mut self,
        observer: &mut dyn Observer,
    ) -> Result<Vec<ZeroShotReport>, TrainError> {
        let step = self.state.step;
        let is_last = step == self.checked.schedule.total_steps;
        let checked = self.checked;
        let is_due = |every: u64| is_last || step.is_multiple_of(every);
        let mut reports = Vec::new();
        for eval in checked.evals.iter().filter(|eval| is_due(eval.every_steps)) {
            let encoder = self.encoder(eval.weights)?;
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

    fn encoder(&self, weights: EvalWeights) -> Result<Encoder, TrainError> {
        let model = match (&self.ema, weights) {
            (Some(ema), EvalWeights::Ema) => ema.model().clone(),
            _ => self.model().valid(),
        };
        let tokenizer = self.checked.data.tokens.tokenizer.clone();
        Ok(Encoder::new(
            model,
            &self.spec,
            &self.preprocess,
            tokenizer,
        )?)
    }

    /// Whether one of the reports holds the best value so far.
    pub(super) fn note_best(&mut self, reports: &[ZeroShotReport]) -> bool {
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
            .is_some_and(|best| best.metric == *wanted && best.value >= value)
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

    pub(super) fn end_of_epoch(
        &mut self,
        reports: Vec<ZeroShotReport>,
        observer: &mut dyn Observer,
    ) {
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
