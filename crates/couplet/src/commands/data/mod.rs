//! `couplet data`.

mod bench;
mod index;
mod pack;
mod shapes;
mod survey;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Measure how fast a config's training data loads, and which stage takes the time
    Bench(bench::BenchArguments),
    /// Read every sample of a config's training data and list the bad ones; exit with 1 if there
    /// are any
    Check(survey::CheckArguments),
    /// Print image sizes, caption lengths and duplicates of a config's training data
    Stats(survey::StatsArguments),
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
