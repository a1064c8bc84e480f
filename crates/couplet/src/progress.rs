//! The display of a run: a progress bar on a terminal, plain lines elsewhere.

use std::path::PathBuf;
use std::time::Instant;

use couplet_data::Skipped;
use couplet_eval::metric::{LOSS, LR, SAMPLES_PER_SECOND};
use couplet_eval::{MetricInfo, Protocol, Report};
use couplet_train::{EpochSummary, Event, Observer, RunSizes, TrainLine};
use indicatif::{ProgressBar, ProgressStyle};

use crate::bar_line::bar_line;
use crate::printing;
use crate::quantities::{count, count_of, duration, parameters};
use crate::table::Table;
use crate::terminal;

/// A display of a run that can be closed.
pub(crate) trait Screen: Observer {
    /// Restores the terminal, so that further lines are printed below.
    fn finish(&mut self);
}

/// Shows a run's events.
pub(crate) struct Progress {
    /// On a terminal: one line, which is drawn again after each step.
    bar: Option<ProgressBar>,
    shows_bars: bool,
    total_steps: u64,
    steps_per_epoch: u64,
    epochs: u64,
    /// Steps between plain lines.
    log_steps: u64,
    /// Steps before this process.
    done_steps: u64,
    skipped: u64,
    /// Where the skipped samples are listed.
    skipped_list: PathBuf,
    /// The evaluation that is shown.
    evaluation: Option<Evaluation>,
}

/// How far an evaluation is.
struct Evaluation {
    dataset: String,
    done: usize,
    /// What was done when it was first shown, and when.
    first: usize,
    since: Instant,
}

impl Evaluation {
    /// Seconds until all images are done, at the speed so far.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn left(&self, images: usize) -> Option<f64> {
        let done = self.done.checked_sub(self.first).filter(|done| *done > 0)?;
        let left = images.checked_sub(self.done).filter(|left| *left > 0)?;
        Some(self.since.elapsed().as_secs_f64() / done as f64 * left as f64)
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            bar: None,
            shows_bars: terminal::shows_bars(),
            total_steps: 0,
            steps_per_epoch: 1,
            epochs: 0,
            log_steps: 1,
            done_steps: 0,
            skipped: 0,
            skipped_list: PathBuf::new(),
            evaluation: None,
        }
    }

    fn started(&mut self, plan: &RunSizes) {
        self.total_steps = plan.total_steps;
        self.steps_per_epoch = plan.steps_per_epoch;
        self.epochs = plan.epochs;
        self.log_steps = plan.log_steps;
        self.done_steps = plan.done_steps;
        printing::line(&format!(
            "{} on {}; {} per epoch in {} of {}; {} in total",
            parameters(plan.parameters),
            plan.device,
            count_of(plan.samples_per_epoch, "sample"),
            count(plan.steps_per_epoch, "step"),
            plan.batch_size,
            count(plan.total_steps, "step")
        ));
        if plan.done_steps > 0 {
            printing::line(&format!("continuing after step {}", plan.done_steps));
        }
        if self.shows_bars {
            let bar = bar(plan.total_steps);
            bar.set_position(plan.done_steps);
            bar.reset_eta();
            printing::set_bar(Some(&bar));
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, line: &TrainLine) {
        let is_logged = line.step.is_multiple_of(self.log_steps) || line.step == self.total_steps;
        let Some(bar) = &self.bar else {
            if is_logged {
                printing::line(&self.plain_line(line));
            }
            return;
        };
        bar.set_position(line.step);
        let mut parts = vec![
            (9, format!("step {}/{}", line.step, self.total_steps)),
            (5, format!("epoch {}/{}", line.epoch, self.epochs)),
            (8, format!("loss {}", LOSS.of(line.loss))),
            (
                6,
                SAMPLES_PER_SECOND.of(line.samples_per_second).to_string(),
            ),
            (7, format!("{} left", duration(bar.eta().as_secs_f64()))),
        ];
        if self.skipped > 0 {
            parts.push((4, format!("{} skipped", self.skipped)));
        }
        show(bar, line.step, self.total_steps, &parts);
        if is_logged {
            // Only the log gets it: the bar is on the screen.
            printing::copy_if_idle(&self.plain_line(line));
        }
    }

    fn plain_line(&self, line: &TrainLine) -> String {
        format!(
            "step {}/{}  epoch {}  loss {}  lr {}  {}  {} left",
            line.step,
            self.total_steps,
            line.epoch,
            LOSS.of(line.loss),
            LR.of(line.lr),
            SAMPLES_PER_SECOND.of(line.samples_per_second),
            self.left(line)
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn left(&self, line: &TrainLine) -> String {
        let steps = (self.total_steps - line.step) as f64;
        let per_step = line.time / line.step as f64;
        duration(steps * per_step)
    }

    /// Shows the progress of an evaluation on a terminal.
    pub(crate) fn evaluating(&mut self, dataset: &str, done: usize, images: usize) {
        if !self.shows_bars {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = bar(images as u64);
            printing::set_bar(Some(&bar));
            bar
        });
        let mut parts = vec![
            (9, format!("evaluating {dataset}")),
            (8, format!("{done}/{images} images")),
        ];
        // The bar's own clock is that of the steps.
        let begun = match &mut self.evaluation {
            Some(own) if own.dataset == dataset && own.done <= done => own,
            other => other.insert(Evaluation {
                dataset: dataset.to_string(),
                done,
                first: done,
                since: Instant::now(),
            }),
        };
        begun.done = done;
        if let Some(seconds) = begun.left(images) {
            parts.push((7, format!("{} left", duration(seconds))));
        }
        show(bar, done as u64, images as u64, &parts);
    }

    fn epoch(&self, summary: &EpochSummary) {
        let epochs = self.epochs;
        let mut text = format!(
            "epoch {}/{epochs}  step {}  mean loss {}  {}",
            summary.epoch,
            summary.step,
            LOSS.of(summary.loss),
            duration(summary.seconds)
        );
        if summary.skipped > 0 {
            let (skipped, list) = (
                count(summary.skipped, "sample"),
                self.skipped_list.display(),
            );
            let first = summary.first_skipped.as_ref();
            let first = first.map_or(String::new(), |first| format!(" (first: {})", brief(first)));
            text.push_str(&format!("  skipped {skipped}{first}; see {list}"));
        }
        printing::line(&text);
        if !summary.reports.is_empty() {
            printing::block(&table(&summary.reports, terminal::table_columns()));
        }
    }
}

/// A skipped sample: where it is and what is wrong with it, without the decoder's message.
fn brief(skipped: &Skipped) -> String {
    let [shard, key] = [&skipped.shard, &skipped.key].map(|name| couplet_data::printable(name));
    format!("{shard}: {key}: {}", skipped.cause)
}

/// A bar whose line is composed here, because it has to fit the terminal.
fn bar(len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
    ProgressBar::new(len).with_style(style)
}

fn show(bar: &ProgressBar, done: u64, of: u64, parts: &[(u8, String)]) {
    bar.set_message(bar_line(done, of, parts, terminal::bar_columns()));
}

impl Screen for Progress {
    fn finish(&mut self) {
        printing::set_bar(None);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: Event) {
        match event {
            Event::Opened { text_log, skipped } => {
                self.skipped_list = skipped.to_path_buf();
                printing::attach(text_log);
            }
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
                    let columns = terminal::table_columns();
                    let table = table(std::slice::from_ref(report), columns);
                    printing::block(&format!("step {step}\n{table}"));
                }
            }
            Event::Epoch(summary) => self.epoch(summary),
            Event::Skipped { samples, .. } => self.skipped += samples,
            Event::Note(text) => printing::line(text),
            Event::Warning(text) => printing::warn_in_run(text),
            Event::Saved(_) => {}
        }
    }
}

/// Prints a table of results.
pub(crate) fn print_reports(reports: &[Report]) {
    printing::block(&table(reports, terminal::table_columns()));
}

/// A table for each protocol and its metrics, in the order of the first report of each.
fn table(reports: &[Report], columns: usize) -> String {
    let metrics = |report: &Report| -> Vec<MetricInfo> {
        let metrics = report.metrics.0.iter();
        metrics.map(|metric| metric.info).collect()
    };
    let mut kinds: Vec<(Protocol, Vec<MetricInfo>)> = Vec::new();
    for report in reports {
        let kind = (report.protocol, metrics(report));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let tables = kinds.iter().map(|kind| {
        let own = reports.iter();
        let own: Vec<&Report> = own
            .filter(|report| (report.protocol, metrics(report)) == *kind)
            .collect();
        let has_skipped = own.iter().any(|report| report.skipped > 0);
        let skipped = |text: String| has_skipped.then_some(text);
        let labels = kind.1.iter().map(|info| info.label.to_string());
        let head = [kind.0.to_string(), "images".into()].into_iter();
        let mut table = Table::new(
            head.chain(labels)
                .chain(skipped("skipped".into()))
                .collect(),
        );
        for report in own {
            let values = report.metrics.0.iter().map(ToString::to_string);
            let cells = [report.dataset.clone(), report.images.to_string()].into_iter();
            let last = skipped(report.skipped.to_string());
            table.row(cells.chain(values).chain(last).collect());
        }
        table.render(columns)
    });
    tables.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use couplet_eval::Metrics;
    use couplet_eval::metric::{TOP1, TOP5};

    use super::*;

    #[test]
    fn reports_are_aligned_at_one_hundred_percent() {
        let report = |dataset: &str, top1: f64, skipped: usize| Report {
            dataset: dataset.into(),
            protocol: Protocol::ZeroShot,
            metrics: Metrics(vec![TOP1.of(top1), TOP5.of(1.0)]),
            images: 40,
            targets: 10,
            skipped,
        };
        let reports = [report("shapes", 1.0, 0), report("digits", 0.05, 2)];
        let wanted = "  zero-shot  images     top1     top5  skipped
  shapes         40  100.00%  100.00%        0
  digits         40    5.00%  100.00%        2";
        assert_eq!(table(&reports, 80), wanted);
        assert!(!table(&reports[..1], 80).contains("skipped"));
    }
}
