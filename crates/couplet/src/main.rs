//! The `couplet` command: parses arguments, runs a command and returns its exit code.

/// As std's, but silent where standard output is for JSON, and a closed pipe (`| head`) does not end the program: a run must reach its
/// checkpoint.
macro_rules! println {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        if !crate::json_output::is_alone() {
            let _ = writeln!(std::io::stdout(), $($arguments)*);
        }
    }};
}

mod commands;
#[cfg(feature = "dashboard")]
mod dashboard;
mod diagnostics;
mod exit_code;
mod failure;
mod json_output;
mod memory;
mod progress;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use couplet_train::{ConfigError, SweepError};
use tracing_subscriber::filter::LevelFilter;

use crate::commands::bench::BenchCommand;
use crate::commands::classify::ClassifyArguments;
use crate::commands::config::ConfigCommand;
use crate::commands::data::DataCommand;
use crate::commands::embed::EmbedArguments;
use crate::commands::eval::EvalCommand;
use crate::commands::model::ModelCommand;
use crate::commands::plan::PlanArguments;
use crate::commands::sweep::SweepArguments;
use crate::commands::tokenize::TokenizeArguments;
use crate::commands::tokenizer::TokenizerCommand;
use crate::commands::train::TrainArguments;
use crate::commands::verify::VerifyArguments;
use crate::commands::{
    bench, classify, config, data, embed, eval, model, plan, sweep, tokenize, tokenizer, train,
    verify,
};

/// Every operation on the CPU allocates and frees tensors; an allocator that returns their pages
/// to the system each time costs a fifth of a step.
#[global_allocator]
static ALLOCATOR: couplet_alloc::Allocator = couplet_alloc::Allocator;

/// Train, evaluate and use contrastive image-text models (CLIP); a run is one TOML file
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model from a config
    Train(TrainArguments),
    /// Estimate a run's parameters, FLOPs, steps, memory and time before it starts
    Plan(PlanArguments),
    /// Train a config many times with different values and rank the results
    Sweep(SweepArguments),
    /// List and document the keys of a config
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Evaluate a model
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Classify images zero-shot by labels, or by a fine-tuned model's classes
    Classify(ClassifyArguments),
    /// Write the features of images and texts to a file
    Embed(EmbedArguments),
    /// Measure training speed
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check, measure and convert training data
    #[command(subcommand)]
    Data(DataCommand),
    /// List, describe and convert models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Print the token ids of texts, one text per line
    Tokenize(TokenizeArguments),
    /// Train a tokenizer
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
    /// Check a run's checkpoints and logs for damage
    Verify(VerifyArguments),
}

fn main() -> ExitCode {
    couplet_alloc::keep_freed_memory();
    memory::print_advice_when_exhausted();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Arguments::parse_from(json_output::arguments()).command {
        Command::Train(arguments) => train::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Eval(command) => eval::run(&command),
        Command::Classify(arguments) => classify::run(&arguments),
        Command::Embed(arguments) => embed::run(&arguments),
        Command::Bench(command) => bench::run(&command),
        Command::Data(command) => data::run(&command),
        Command::Model(command) => model::run(&command),
        Command::Tokenize(arguments) => tokenize::run(&arguments),
        Command::Tokenizer(command) => tokenizer::run(&command),
        Command::Verify(arguments) => verify::run(&arguments),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::print(&error);
            let is_usage = error.is::<ConfigError>()
                || matches!(
                    error.downcast_ref(),
                    Some(SweepError::Mistakes { .. } | SweepError::Config { .. })
                );
            ExitCode::from(if is_usage {
                exit_code::USAGE
            } else {
                exit_code::FAILED
            })
        }
    }
}
