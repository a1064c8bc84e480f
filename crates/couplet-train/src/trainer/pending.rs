//! Steps that a GPU has yet to end: it is asked for their numbers when a line is logged, so that it never waits for
//! the host.

use std::time::Instant;

use burn::tensor::Tensor;
use couplet_data::loader::Loader;

use super::{PendingStep, TrainError, Trainer, Window};
use crate::feed::Feed;
use crate::log::TrainLine;
use crate::observer::{Event, Observer, StopSignal};
use crate::step::{StepBatch, StepNumbers, StepReport};

impl Trainer<'_> {
    /// Where a loader's batches come from.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn feed(&self, loader: Loader) -> std::io::Result<Feed> {
        let encoding = &self.context.encoding;
        let (device, image_size) = (encoding.device_without_graph(), encoding.image_size);
        let pairs = self.run.config.batch.global / self.context.comm.ranks();
        Feed::new(loader, self.run.config.device, device, pairs, image_size)
    }

    /// This rank's next pairs; `None` if the run ends here.
    pub(super) fn fetch(
        &mut self,
        feed: &Feed,
        stop: &StopSignal,
        observer: &mut dyn Observer,
    ) -> Result<Option<StepBatch>, TrainError> {
        if self.is_finished() || stop.is_set() {
            return Ok(None);
        }
        self.waited = 0.0;
        let batch = if let Some(batch) = feed.ready_batch() {
            batch
        } else {
            // As long as a GPU works on, nothing waits for data.
            self.catch_up(observer)?;
            let waiting = Instant::now();
            let batch = feed.next_batch();
            self.waited = waiting.elapsed().as_secs_f64();
            batch
        };
        self.loading = feed.stage_times();
        if batch.is_err() {
            // A loss that was not finite comes first.
            self.catch_up(observer)?;
        }
        Ok(Some(batch?))
    }

    /// Waits for the steps that are done, and reports them.
    ///
    /// # Errors
    /// If a loss or gradient was not finite, or the log cannot be written.
    pub(super) fn catch_up(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let scales = pending.iter().map(|step| step.logit_scale.clone().exp());
        let scales = Tensor::cat(scales.collect(), 0)
            .into_data()
            .convert::<f64>();
        let scales = scales.try_to_vec::<f64>().expect("they were converted");
        let numbers = pending.iter().map(|step| step.numbers.clone()).collect();
        let reports = StepNumbers::read(numbers);
        for ((step, report), logit_scale) in pending.into_iter().zip(reports).zip(scales) {
            if !report.updated {
                // The later ones count for nothing.
                self.state.step = step.line.step - 1;
                return Err(self.not_finite(step.line.step, report));
            }
            self.state.epoch_loss += report.loss;
            self.overfitting.observe_step(report.loss);
            self.report_step(&step, report, logit_scale, observer)?;
        }
        Ok(())
    }

    fn report_step(
        &mut self,
        step: &PendingStep,
        report: StepReport,
        logit_scale: f64,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        // All steps since the last line have ended by now.
        let (samples_per_second, waited) = self.speed();
        let line = TrainLine {
            loss: report.loss,
            grad_norm: report.grad_norm,
            logit_scale,
            time: self.seconds(),
            samples_per_second,
            data_wait: waited,
            ..step.line
        };
        let mut data_wait = None;
        if step.is_logged {
            self.last_line = Some(line);
            self.write_metrics(&line, observer)?;
            data_wait = Some((line.data_wait, self.loading.since(&self.loading_before)));
            self.loading_before = self.loading;
            self.window = Window::new();
        }
        observer.event(Event::Step(&line));
        self.diagnose(&line, step.duplicate_captions, data_wait, observer);
        Ok(())
    }

    /// Whether observers have not heard of steps for long.
    pub(super) fn lags(&self) -> bool {
        const MOST: usize = 10;
        const SECONDS: f64 = 1.0;
        let since = |first: &PendingStep| self.seconds() - first.line.time;
        let age = self.pending.first().map_or(0.0, since);
        self.pending.len() >= MOST || age > SECONDS
    }

    /// The line of the step that was just started.
    pub(super) fn line_without_numbers(&self, lr: f64) -> TrainLine {
        TrainLine {
            step: self.state.step,
            epoch: self.epoch(),
            samples_seen: self.state.samples_seen,
            time: self.seconds(),
            loss: f64::NAN,
            lr,
            logit_scale: f64::NAN,
            grad_norm: f64::NAN,
            samples_per_second: f64::NAN,
            data_wait: f64::NAN,
            loss_scale: self.loss_scale(),
        }
    }

    /// Samples per second, and the share of the time that was spent waiting for data, since the last line.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn speed(&self) -> (f64, f64) {
        let seconds = self.window.start.elapsed().as_secs_f64().max(1e-9);
        let samples = self.window.steps * self.run.sizes.batch_size;
        (samples as f64 / seconds, self.window.waited / seconds)
    }

    pub(super) fn not_finite(&self, step: u64, report: StepReport) -> TrainError {
        TrainError::NotFinite {
            step,
            loss: report.loss,
            grad_norm: report.grad_norm,
            last_good: self.last_good(),
        }
    }
}
