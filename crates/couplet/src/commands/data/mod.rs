//! `couplet data`.

mod bench;
mod index;
mod pack;
mod shapes;
mod survey;

use std::io::IsTerminal;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::config_arguments::ConfigArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Measure how fast a config's training data loads, and which stage takes the time
    Bench(bench::BenchArguments),
    /// Read every sample of a config's training data and list the bad ones; exit with 1 if there
    /// are any
    Check(survey::CheckArguments),
    /// Print image sizes, caption lengths and duplicates of a config's training data
    Stats(ConfigArguments),
    /// Write an index next to each tar shard, so that runs start without scanning the shards
    Index(index::IndexArguments),
    /// Write a config's training data as tar shards or in another format
    Pack(pack::PackArguments),
    /// Write the images and captions of the `shapes` dataset as files
    Shapes(shapes::ShapesArguments),
}

pub(crate) fn run(command: &DataCommand) -> anyhow::Result<u8> {
    match command {
        DataCommand::Bench(arguments) => bench::run(arguments),
        DataCommand::Check(arguments) => survey::check(arguments),
        DataCommand::Stats(arguments) => survey::stats(arguments),
        DataCommand::Index(arguments) => index::run(arguments),
        DataCommand::Pack(arguments) => pack::run(arguments),
        DataCommand::Shapes(arguments) => shapes::run(arguments),
    }
}

/// A progress bar on a terminal, or a spinner where the length is unknown.
/// - unit: what is counted, such as `samples`.
fn bar(count: Option<usize>, unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match count {
        Some(_) => format!("{{bar:24}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left"),
        None => format!("{{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed}}"),
    };
    let style = ProgressStyle::with_template(&template).expect("the template is valid");
    let bar = count.map_or_else(ProgressBar::new_spinner, |len| ProgressBar::new(len as u64));
    bar.with_style(style)
}
