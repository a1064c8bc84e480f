//! burn-train's terminal dashboard, fed from a run's events.

use std::sync::Arc;

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger;
use burn_train::metric::{
    MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry, SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};
use couplet_eval::{Better, Metric};
use couplet_train::{EpochSummary, Event, Observer, RunSizes, StopSignal, TrainLine};

use crate::printing;
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
        let epochs = plan.epochs;
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
        for metric in line.metrics() {
            self.show(Split::Train, metric.info.name, metric);
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

    fn show(&mut self, split: Split, name: &str, metric: Metric) {
        let Some(renderer) = &mut self.renderer else {
            return;
        };
        let metric_id = MetricId::new(Arc::new(name.to_string()));
        let Metric { info, value } = metric;
        if !self.known.iter().any(|known| known == name) {
            self.known.push(name.to_string());
            renderer.register_metric(MetricDefinition {
                metric_id: metric_id.clone(),
                name: Arc::new(name.to_string()),
                description: None,
                attributes: NumericAttributes {
                    unit: info.unit.symbol().map(str::to_string),
                    // burn-train's default, where neither direction is better.
                    higher_is_better: info.better != Some(Better::Lower),
                }
                .into(),
            });
        }
        let text = SerializedEntry::new(metric.to_string(), value.to_string());
        let entry = MetricEntry::new(metric_id, text);
        let state = MetricState::Numeric(entry, Some(NumericEntry::Value(info.unit.shown(value))));
        match split {
            Split::Train => renderer.update_train(state),
            Split::Valid => renderer.update_valid(state),
        }
    }
}

impl Observer for Dashboard {
    fn event(&mut self, event: Event) {
        match event {
            Event::Opened { text_log, .. } => printing::attach(text_log),
            Event::Started(plan) => self.started(plan),
            Event::Step(line) => self.step(line),
            Event::Evaluating { done, images, .. } => self.evaluating(done, images),
            Event::Evaluated { report, .. } => {
                for metric in &report.metrics.0 {
                    let name = format!("{}/{}", report.dataset, metric.info.name);
                    self.show(Split::Valid, &name, *metric);
                }
            }
            Event::Epoch(summary) => self.epoch(summary),
            Event::Warning(text) => self.warnings.push(text.to_string()),
            Event::Note(text) => printing::copy_if_idle(text),
            Event::Skipped { .. } | Event::Saved(_) => {}
        }
    }
}

impl Screen for Dashboard {
    fn finish(&mut self) {
        self.renderer = None;
        for warning in self.warnings.drain(..) {
            printing::warn_in_run(&warning);
        }
    }
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
