//! The `couplet` command: arguments, printing and exit codes.

mod commands;
mod progress;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use couplet_train::{ConfigError, DeviceSetting};
use tracing_subscriber::filter::LevelFilter;

/// Tensors come and go at every operation on the CPU; the system's allocator hands their
/// pages back to the kernel each time, which cost a fifth of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A bad config or bad arguments, as clap has it.
const EXIT_USAGE: u8 = 2;
/// A run that failed.
const EXIT_FAILED: u8 = 1;
/// A run that was stopped by a signal, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

/// Contrastive image-text pretraining (CLIP): one TOML file in, a trained model out.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model from a config.
    Train(TrainArguments),
    /// Evaluate a model.
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Look at models.
    #[command(subcommand)]
    Model(ModelCommand),
}

#[derive(Debug, clap::Args)]
struct TrainArguments {
    /// The run's TOML file.
    config: PathBuf,
    /// Set a key of the config; values are TOML, anything else is taken as a string.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// The run's folder; by default runs/NAME.
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// Continue from the folder's latest checkpoint; without one, start afresh.
    #[arg(long)]
    resume: bool,
    /// Replace the run that the folder holds.
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
}

#[derive(Debug, Subcommand)]
enum EvalCommand {
    /// Classify images by the names of their classes alone.
    ZeroShot(ZeroShotArguments),
}

#[derive(Debug, clap::Args)]
struct ZeroShotArguments {
    /// A run's folder, a checkpoint or an open_clip folder.
    #[arg(long)]
    model: PathBuf,
    /// A file of datasets/, or a folder with one sub-folder a class; may be repeated.
    #[arg(long, required = true)]
    dataset: Vec<PathBuf>,
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to run: auto, flex, cuda:N, rocm:N, metal, vulkan or wgpu.
    #[arg(long, default_value = "auto")]
    device: DeviceSetting,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// List the presets that `model.preset` takes.
    List,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Arguments::parse().command {
        Command::Train(arguments) => commands::train(&arguments),
        Command::Eval(EvalCommand::ZeroShot(arguments)) => commands::zero_shot(&arguments),
        Command::Model(ModelCommand::List) => commands::list_models(),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            let is_usage = error.is::<ConfigError>();
            ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_FAILED })
        }
    }
}

/// The error with its causes, each said once: many of ours quote their cause themselves.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
