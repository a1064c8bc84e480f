//! `couplet bench ranks`.

use std::time::Duration;

use clap::Args;
use couplet_train::{
    Disagreement, LinkMeasurement, Prediction, Ranks, RanksReport, bandwidth, bench_ranks,
};

use super::step::{BenchStepArguments, settings};
use crate::exit_code;
use crate::printing;
use crate::ranks;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct BenchRanksArguments {
    #[command(flatten)]
    step: BenchStepArguments,
    /// Bandwidth of a machine to others, such as `25 Gbit`, with which more ranks than there are on this one
    /// are predicted
    #[arg(long, value_name = "BANDWIDTH", default_value = "100 Gbit", value_parser = bandwidth)]
    network: f64,
}

/// How long ranks wait for each other: rank 0 is measured alone first.
const PATIENCE: Duration = Duration::from_mins(30);

pub(super) fn run(arguments: &BenchRanksArguments) -> anyhow::Result<u8> {
    let ranks = ranks::start(PATIENCE)?;
    let result = run_on(arguments, &ranks);
    ranks::end(ranks, result)
}

fn run_on(arguments: &BenchRanksArguments, ranks: &Ranks) -> anyhow::Result<u8> {
    let json = &arguments.step.json;
    let begun = if ranks.is_first() {
        json.begin()
    } else {
        Ok(())
    };
    ranks::agree(ranks, begun)?;
    let mut settings = ranks::agree(ranks, settings(&arguments.step))?;
    settings.device = settings.device.of_local_rank(ranks.place().local_rank);
    let report = bench_ranks(&settings, arguments.network, ranks);
    let report = report.map_err(|error| match error {
        Disagreement::Own(error) => anyhow::Error::from(error),
        Disagreement::Other(other) => other.into(),
        Disagreement::Lost(lost) => lost.into(),
    })?;
    if ranks.is_first() {
        print(&arguments.step.model, &report);
        json.write(&serde_json::to_value(&report)?)?;
    }
    Ok(exit_code::DONE)
}

fn print(model: &str, report: &RanksReport) {
    say!(
        "{model}, {} with {} pairs each: {:.1} samples/s\n",
        crate::quantities::count_of(report.ranks, "rank"),
        report.batch,
        report.samples_per_second
    );
    let columns = terminal::table_columns();
    printing::block(&steps(report).render(columns));
    say!("");
    printing::block(&speeds(report).render(columns));
    if !report.links.is_empty() {
        say!("");
        printing::block(&links(&report.links).render(columns));
    }
    say!("");
    printing::block(&predictions(report).render(columns));
    say!(
        "\n  predicted from the step of a rank among others, and step times that spread by {:.0}%;",
        100.0 * couplet_train::STEP_SPREAD
    );
    say!(
        "  {:.1} us and {:.2} GB/s within a machine, {:.2} GB/s between machines",
        1e6 * report.interconnect.local.latency,
        report.interconnect.local.bandwidth / 1e9,
        report.interconnect.network.bandwidth / 1e9,
    );
}

fn table(head: &[&str]) -> Table {
    Table::new(head.iter().map(ToString::to_string).collect())
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// The parts of a step.
fn steps(report: &RanksReport) -> Table {
    let mut table = table(&["step, mean of all ranks", "seconds", "share"]);
    let seconds = report.seconds;
    for (name, part) in [
        ("encode", seconds.encode),
        ("gather features (and wait)", seconds.gather),
        ("loss and backward", seconds.loss_and_backward),
        ("sums of gradients, not hidden", seconds.sums),
        ("small exchanges", seconds.agreement),
        ("update", seconds.update),
        ("total", seconds.total()),
    ] {
        let share = percent(part / seconds.total());
        table.row(vec![name.to_string(), format!("{part:.4}"), share]);
    }
    table
}

/// A rank alone, among others, and what it gives together with them.
#[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
fn speeds(report: &RanksReport) -> Table {
    let mut table = table(&["samples/s of a rank", "samples/s", "of alone"]);
    let batch = report.batch as f64;
    let alone = batch / report.alone_seconds;
    let mut row = |name: String, speed: f64| {
        let share = percent(speed / alone);
        table.row(vec![name, format!("{speed:.1}"), share]);
    };
    row("alone".to_string(), alone);
    for (name, rank) in ["slowest", "median", "fastest"]
        .into_iter()
        .zip(report.extremes())
    {
        row(
            format!(
                "{name} without exchanges, rank {} on {}",
                rank.rank, rank.host
            ),
            batch / rank.crowded_seconds,
        );
    }
    row(
        "together (weak efficiency)".to_string(),
        report.weak_efficiency * alone,
    );
    row(
        "strong efficiency".to_string(),
        report.strong_efficiency * alone,
    );
    table
}

fn links(links: &[LinkMeasurement]) -> Table {
    let mut table = table(&["bytes", "gather us", "GB/s", "sum us", "GB/s"]);
    for link in links {
        table.row(vec![
            link.bytes.to_string(),
            format!("{:.1}", 1e6 * link.gather_seconds),
            format!("{:.3}", link.gather_bandwidth / 1e9),
            format!("{:.1}", 1e6 * link.sum_seconds),
            format!("{:.3}", link.sum_bandwidth / 1e9),
        ]);
    }
    table
}

fn predictions(report: &RanksReport) -> Table {
    let mut table = table(&[
        "predicted ranks",
        "samples/s",
        "step",
        "waiting",
        "exchange",
        "efficiency",
    ]);
    let mut row = |name: String, found: &Prediction| {
        let seconds = found.seconds;
        table.row(vec![
            name,
            format!("{:.1}", found.samples_per_second),
            format!("{:.4} s", seconds.total()),
            format!("{:.4} s", seconds.waiting),
            format!("{:.4} s", seconds.exchange()),
            percent(found.weak_efficiency),
        ]);
    };
    row(
        format!("{} (as measured here)", report.ranks),
        &report.predicted_here,
    );
    for found in &report.predicted {
        row(found.ranks.to_string(), found);
    }
    table
}
