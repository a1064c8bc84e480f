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

/// Prints a text as `println!` does, wrapped at words on a terminal and copied to a run's log.
macro_rules! say {
    ($($arguments:tt)*) => {
        crate::printing::line(&format!($($arguments)*))
    };
}

mod bar_line;
mod commands;
#[cfg(feature = "dashboard")]
mod dashboard;
mod diagnostics;
mod exit_code;
mod failure;
mod json_output;
mod memory;
mod printing;
mod program;
mod progress;
mod quantities;
mod ranks;
mod signals;
mod table;
mod terminal;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use couplet_train::import::ImportError;
use couplet_train::{ConfigError, SweepError};
use tracing_subscriber::filter::LevelFilter;

use crate::commands::bench::BenchCommand;
use crate::commands::classify::ClassifyArguments;
use crate::commands::completions::CompletionsArguments;
use crate::commands::config::ConfigCommand;
use crate::commands::data::DataCommand;
use crate::commands::embed::EmbedArguments;
use crate::commands::eval::EvalCommand;
use crate::commands::import::ImportArguments;
use crate::commands::index::IndexArguments;
use crate::commands::init::InitArguments;
use crate::commands::man::ManArguments;
use crate::commands::model::ModelCommand;
use crate::commands::plan::PlanArguments;
use crate::commands::report::ReportArguments;
use crate::commands::runs::RunsArguments;
use crate::commands::search::SearchArguments;
#[cfg(feature = "serve")]
use crate::commands::serve::ServeArguments;
use crate::commands::sweep::SweepArguments;
use crate::commands::tokenize::TokenizeArguments;
use crate::commands::tokenizer::TokenizerCommand;
use crate::commands::train::TrainArguments;
use crate::commands::verify::VerifyArguments;
#[cfg(feature = "serve")]
use crate::commands::watch::WatchArguments;
use crate::commands::{
    bench, classify, completions, config, data, embed, eval, examples, import, index, init, man,
    model, plan, report, runs, search, sweep, tokenize, tokenizer, train, verify,
};
#[cfg(feature = "serve")]
use crate::commands::{serve, watch};
use crate::terminal::Stream;

/// Every operation on the CPU allocates and frees tensors; an allocator that returns their pages
/// to the system each time costs a fifth of a step.
#[global_allocator]
static ALLOCATOR: couplet_alloc::Allocator = couplet_alloc::Allocator;

/// The widest help.
const HELP_COLUMNS: usize = 100;

/// Train, evaluate and use contrastive image-text models (CLIP); a run is one TOML file
#[derive(Debug, Parser)]
#[command(version = program::version(), long_version = program::long_version())]
struct Arguments {
    /// Color what is printed: `auto` does where it is printed to a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first config for image-text pairs
    Init(InitArguments),
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
    /// Write the features of images to an index, to search them
    Index(IndexArguments),
    /// Search an index of images by words or by an image
    Search(SearchArguments),
    /// Serve a model: a page to try it and to search images, and an API for programs
    #[cfg(feature = "serve")]
    Serve(ServeArguments),
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
    /// Translate a training command of open_clip, or a run's params.txt, into a config
    Import(ImportArguments),
    /// List runs: state, step, time left, best value
    Runs(RunsArguments),
    /// Write a page that shows runs: curves, evaluations, what happened and what differs
    Report(ReportArguments),
    /// Serve a page that follows runs while they train
    #[cfg(feature = "serve")]
    Watch(WatchArguments),
    /// Check a run's checkpoints and logs for damage
    Verify(VerifyArguments),
    /// Print a script that completes commands in a shell
    Completions(CompletionsArguments),
    /// Print the manual page, or write those of all commands
    Man(ManArguments),
}

/// The whole command line, with the examples in its help.
fn command_line() -> clap::Command {
    let columns = terminal::columns(Stream::Output).unwrap_or(HELP_COLUMNS);
    let command = Arguments::command().color(named_color());
    examples::add_to(command, columns.min(HELP_COLUMNS))
}

/// The arguments; prints and exits if they are wrong or ask for help.
fn parse() -> Arguments {
    let color = named_color();
    match color {
        ColorChoice::Auto => {}
        ColorChoice::Always | ColorChoice::Never => {
            console::set_colors_enabled(color == ColorChoice::Always);
            console::set_colors_enabled_stderr(color == ColorChoice::Always);
        }
    }
    let matches = command_line().get_matches_from(json_output::arguments());
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// What `--color` says, found before the arguments are parsed: their errors are in color too.
fn named_color() -> ColorChoice {
    let arguments: Vec<String> = (std::env::args_os())
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let values = arguments.iter().enumerate().filter_map(|(at, argument)| {
        let next = || arguments.get(at + 1).map(String::as_str);
        match argument.strip_prefix("--color") {
            Some("") => next(),
            Some(value) => value.strip_prefix('='),
            None => None,
        }
    });
    let mut choices = values.filter_map(|value| value.parse().ok());
    choices.next_back().unwrap_or(ColorChoice::Auto)
}

fn main() -> ExitCode {
    couplet_alloc::keep_freed_memory();
    memory::print_advice_when_exhausted();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_target(false)
        .with_level(false)
        .without_time()
        .with_ansi(false)
        .with_writer(printing::Warnings::default)
        .init();
    #[cfg(feature = "hub")]
    couplet_eval::hear_downloads(commands::model_hub::listener);
    let arguments = parse();
    let alone = match &arguments.command {
        Command::Train(_) | Command::Bench(BenchCommand::Ranks(_)) => Ok(()),
        _ => ranks::check_alone(&command_name()),
    };
    let outcome = alone.and_then(|()| run(arguments.command));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::print(&error);
            let is_usage = error.is::<ConfigError>()
                || error.is::<ImportError>()
                || matches!(
                    error.downcast_ref(),
                    Some(SweepError::Mistakes { .. } | SweepError::Config { .. })
                );
            let other = if is_usage {
                exit_code::USAGE
            } else {
                exit_code::FAILED
            };
            ExitCode::from(ranks::code_of_loss(&error).unwrap_or(other))
        }
    }
}

/// The command that was given, for messages.
fn command_name() -> String {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.find(|argument| !argument.starts_with('-'));
    name.unwrap_or_default()
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Eval(command) => eval::run(&command),
        Command::Classify(arguments) => classify::run(&arguments),
        Command::Embed(arguments) => embed::run(&arguments),
        Command::Index(arguments) => index::run(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::run(&arguments),
        #[cfg(feature = "serve")]
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Bench(command) => bench::run(&command),
        Command::Data(command) => data::run(&command),
        Command::Model(command) => model::run(&command),
        Command::Tokenize(arguments) => tokenize::run(&arguments),
        Command::Tokenizer(command) => tokenizer::run(&command),
        Command::Import(arguments) => import::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Completions(arguments) => Ok(completions::run(&arguments, command_line())),
        Command::Man(arguments) => man::run(&arguments, command_line()),
    }
}
