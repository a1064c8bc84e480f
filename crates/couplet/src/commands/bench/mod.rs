//! `couplet bench`.

mod ranks;
mod step;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time training steps and the image tower's forward pass on random data
    Step(step::BenchStepArguments),
    /// Time the steps of several ranks, which mpirun or another launcher starts, and their exchanges
    ///
    /// --batch is that of one rank. Also predicts the speed of 2 to 1,024 ranks.
    Ranks(ranks::BenchRanksArguments),
}

pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<u8> {
    match command {
        BenchCommand::Step(arguments) => step::run(arguments),
        BenchCommand::Ranks(arguments) => ranks::run(arguments),
    }
}
