//! The display of a run: a progress bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use couplet_eval::metric::{LOSS, LR, SAMPLES_PER_SECOND};
use couplet_eval::{Metric, MetricInfo, Report};
use couplet_train::{EpochSummary, Event, Observer, RunSizes, TrainLine};
use indicatif::{ProgressBar, ProgressStyle};

/// A display of a run that can be closed.
pub(crate) trait Screen: Observer {
    /// Restores the terminal, so that further lines are printed below.
    fn finish(&mut self);
}

/// Shows a run's events.
pub(crate) struct Progress {
    /// The steps of a run.
    bar: Option<ProgressBar>,
    /// The images of a dataset, when evaluating without a run.
    evaluation: Option<ProgressBar>,
    is_terminal: bool,
    total_steps: u64,
    steps_per_epoch: u64,
    epochs: u64,
    /// Steps between plain lines.
    log_steps: u64,
    skipped: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            bar: None,
            evaluation: None,
            is_terminal: std::io::stderr().is_terminal(),
            total_steps: 0,
            steps_per_epoch: 1,
            epochs: 0,
            log_steps: 1,
            skipped: 0,
        }
    }

    fn print(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.suspend(|| println!("{text}"));
        } else {
            println!("{text}");
        }
    }

    fn started(&mut self, plan: &RunSizes) {
        self.total_steps = plan.total_steps;
        self.steps_per_epoch = plan.steps_per_epoch;
        self.epochs = plan.epochs;
        self.log_steps = plan.log_steps;
        println!(
            "{:.2} M parameters on {}; {} samples per epoch in {} steps of {}; {} steps in total",
            millions(plan.parameters),
            plan.device,
            plan.samples_per_epoch,
            plan.steps_per_epoch,
            plan.batch_size,
            plan.total_steps
        );
        if plan.done_steps > 0 {
            println!("continuing after step {}", plan.done_steps);
        }
        if self.is_terminal {
            let style = ProgressStyle::with_template(
                "{bar:24} step {pos}/{len}  {msg}  {elapsed} elapsed, {eta} left",
            )
            .expect("the template is valid");
            let bar = ProgressBar::new(plan.total_steps).with_style(style);
            bar.set_position(plan.done_steps);
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, line: &TrainLine) {
        if let Some(bar) = &self.bar {
            bar.set_position(line.step);
            let skipped = match self.skipped {
                0 => String::new(),
                n => format!("  {n} skipped"),
            };
            bar.set_message(format!(
                "epoch {}  loss {}  {}{skipped}",
                line.epoch,
                LOSS.of(line.loss),
                SAMPLES_PER_SECOND.of(line.samples_per_second)
            ));
        } else if line.step.is_multiple_of(self.log_steps) || line.step == self.total_steps {
            println!(
                "step {}/{}  epoch {}  loss {}  lr {}  {}  {} left",
                line.step,
                self.total_steps,
                line.epoch,
                LOSS.of(line.loss),
                LR.of(line.lr),
                SAMPLES_PER_SECOND.of(line.samples_per_second),
                self.left(line)
            );
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn left(&self, line: &TrainLine) -> String {
        let steps = (self.total_steps - line.step) as f64;
        let per_step = line.time / line.step as f64;
        let seconds = std::time::Duration::from_secs_f64(steps * per_step);
        indicatif::HumanDuration(seconds).to_string()
    }

    /// Shows the progress of an evaluation on a terminal.
    pub(crate) fn evaluating(&mut self, dataset: &str, done: usize, images: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("evaluating {dataset}: {done}/{images} images"));
            return;
        }
        if !self.is_terminal {
            return;
        }
        let bar = self.evaluation.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{msg}  {bar:24} {pos}/{len} images  {eta} left")
                    .expect("the template is valid");
            ProgressBar::new(images as u64).with_style(style)
        });
        bar.set_message(dataset.to_string());
        bar.set_position(done as u64);
    }

    fn epoch(&self, summary: &EpochSummary) {
        let epochs = self.epochs;
        let mut text = format!(
            "epoch {}/{epochs}  step {}  mean loss {}  {:.1} s",
            summary.epoch,
            summary.step,
            LOSS.of(summary.loss),
            summary.seconds
        );
        if !summary.reports.is_empty() {
            text.push('\n');
            text.push_str(&table(&summary.reports));
        }
        self.print(&text);
    }
}

impl Screen for Progress {
    fn finish(&mut self) {
        for bar in self.bar.take().into_iter().chain(self.evaluation.take()) {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: Event) {
        match event {
            Event::Started(plan) => self.started(plan),
            Event::Step(line) => self.step(line),
            Event::Evaluating {
                dataset,
                done,
                images,
            } => self.evaluating(dataset, done, images),
            Event::Evaluated { step, report } => {
                // Evaluations at the end of an epoch are in its table.
                if !step.is_multiple_of(self.steps_per_epoch) && step != self.total_steps {
                    self.print(&format!(
                        "step {step}\n{}",
                        table(std::slice::from_ref(report))
                    ));
                }
            }
            Event::Epoch(summary) => self.epoch(summary),
            Event::Skipped { samples } => self.skipped += samples,
            Event::Note(text) => self.print(text),
            Event::Warning(text) => self.print(&format!("warning: {text}")),
            Event::Saved(_) => {}
        }
    }
}

/// Prints a table of results.
pub(crate) fn print_reports(reports: &[Report]) {
    println!("{}", table(reports));
}

/// A table per protocol.
fn table(reports: &[Report]) -> String {
    let width = reports
        .iter()
        .map(|r| r.dataset.len())
        .max()
        .unwrap_or(0)
        .max(7);
    let columns = |report: &Report| -> Vec<MetricInfo> {
        let metrics = report.metrics.0.iter();
        metrics.map(|metric| metric.info).collect()
    };
    let mut text = String::new();
    let mut head: Option<(couplet_eval::Protocol, Vec<MetricInfo>)> = None;
    for report in reports {
        let own = (report.protocol, columns(report));
        if head.as_ref() != Some(&own) {
            if head.is_some() {
                text.push('\n');
            }
            let protocol = report.protocol.to_string();
            text.push_str(&format!("  {protocol:width$}  {:>7}", "images"));
            for info in &own.1 {
                text.push_str(&format!("  {:>6}", info.label));
            }
            head = Some(own);
        }
        text.push_str(&format!(
            "\n  {:width$}  {:>7}",
            report.dataset, report.images
        ));
        for metric in &report.metrics.0 {
            let width = width_of(metric);
            text.push_str(&format!("  {metric:>width$}"));
        }
        if report.skipped > 0 {
            text.push_str(&format!("  ({} skipped)", report.skipped));
        }
    }
    text
}

/// The width of a metric's column, for its head and its values.
fn width_of(metric: &Metric) -> usize {
    metric.info.label.chars().count().max(6)
}

#[expect(clippy::cast_precision_loss, reason = "a rounded number for display")]
fn millions(count: usize) -> f64 {
    count as f64 / 1e6
}
