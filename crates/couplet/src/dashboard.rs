//! burn-train's terminal dashboard, fed from a run's events.

use std::sync::Arc;

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger;
use burn_train::metric::{
    MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry, SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};
use couplet_train::{EpochSummary, Event, Observer, RunSizes, StopSignal, TrainLine};

use crate::progress::Screen;

/// Plots of a run in the terminal.
pub(crate) struct Dashboard {
    /// `None` once closed.
    renderer: Option<TuiMetricsRendererWrapper>,
    /// Set by the dashboard's own key for stopping.
    interrupter: Interrupter,
    stop: StopSignal,
    /// Names of the registered metrics.
    known: Vec<String>,
    steps_per_epoch: u64,
    is_evaluating: bool,
    /// Printed once the terminal is restored.
    warnings: Vec<String>,
}

/// The curve of a metric that a value belongs to.
#[derive(Clone, Copy)]
enum Split {
    Train,
    Valid,
}

impl Dashboard {
    /// Takes over the terminal.
    /// - stop: set by the dashboard's own key for stopping.
    pub(crate) fn new(stop: StopSignal) -> Self {
        let interrupter = Interrupter::new();
        Self {
            renderer: Some(TuiMetricsRendererWrapper::new(interrupter.clone(), None)),
            interrupter,
            stop,
            known: Vec::new(),
            steps_per_epoch: 1,
            is_evaluating: false,
            warnings: Vec::new(),
        }
    }

    fn started(&mut self, plan: &RunSizes) {
        self.steps_per_epoch = plan.steps_per_epoch.max(1);
        let epochs = plan.total_steps.div_ceil(self.steps_per_epoch);
        let epoch = plan.done_steps / self.steps_per_epoch + 1;
        let Some(renderer) = &mut self.renderer else {
            return;
        };
        renderer.start(size(epochs), size(epoch), None, Some("couplet train"));
        renderer.start_split("train", size(self.steps_per_epoch));
    }

    fn step(&mut self, line: &TrainLine) {
        if self.is_evaluating {
            self.is_evaluating = false;
            let steps = size(self.steps_per_epoch);
            if let Some(renderer) = &mut self.renderer {
                renderer.end_split();
                renderer.start_split("train", steps);
            }
        }
        for (name, value, higher_is_better) in [
            ("Loss", line.loss, false),
            ("Learning rate", line.lr, true),
            ("Logit scale", line.logit_scale, true),
            ("Gradient norm", line.grad_norm, false),
            ("Samples per second", line.samples_per_second, true),
            ("Data wait", line.data_wait, false),
        ] {
            self.show(Split::Train, name, value, higher_is_better);
        }
        let within_epoch = (line.step - 1) % self.steps_per_epoch + 1;
        if let Some(renderer) = &mut self.renderer {
            renderer.update_split(size(within_epoch));
        }
        if self.interrupter.should_stop() {
            self.stop.stop();
        }
    }

    fn evaluating(&mut self, done: usize, images: usize) {
        let Some(renderer) = &mut self.renderer else {
            return;
        };
        if !self.is_evaluating {
            self.is_evaluating = true;
            renderer.end_split();
            renderer.start_split("valid", images);
        }
        renderer.update_split(done);
    }

    fn epoch(&mut self, summary: &EpochSummary) {
        let next = usize::try_from(summary.epoch).unwrap_or(usize::MAX);
        if let Some(renderer) = &mut self.renderer {
            renderer.update_epoch(next);
        }
    }

    fn show(&mut self, split: Split, name: &str, value: f64, higher_is_better: bool) {
        let Some(renderer) = &mut self.renderer else {
            return;
        };
        let metric_id = MetricId::new(Arc::new(name.to_string()));
        if !self.known.iter().any(|known| known == name) {
            self.known.push(name.to_string());
            renderer.register_metric(MetricDefinition {
                metric_id: metric_id.clone(),
                name: Arc::new(name.to_string()),
                description: None,
                attributes: NumericAttributes {
                    unit: None,
                    higher_is_better,
                }
                .into(),
            });
        }
        let text = SerializedEntry::new(format!("{value:.4e}"), value.to_string());
        let entry = MetricEntry::new(metric_id, text);
        let state = MetricState::Numeric(entry, Some(NumericEntry::Value(value)));
        match split {
            Split::Train => renderer.update_train(state),
            Split::Valid => renderer.update_valid(state),
        }
    }
}

impl Observer for Dashboard {
    fn event(&mut self, event: Event) {
        match event {
            Event::Started(plan) => self.started(plan),
            Event::Step(line) => self.step(line),
            Event::Evaluating { done, images, .. } => self.evaluating(done, images),
            Event::Evaluated { report, .. } => {
                for (metric, value) in &report.metrics.0 {
                    let name = format!("{}/{metric}", report.dataset);
                    self.show(Split::Valid, &name, *value, true);
                }
            }
            Event::Epoch(summary) => self.epoch(summary),
            Event::Warning(text) => self.warnings.push(text.to_string()),
            Event::Note(_) | Event::Skipped { .. } | Event::Saved(_) => {}
        }
    }
}

impl Screen for Dashboard {
    fn finish(&mut self) {
        self.renderer = None;
        for warning in self.warnings.drain(..) {
            println!("warning: {warning}");
        }
    }
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
