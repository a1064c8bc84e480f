//! The `couplet` command: arguments, printing and exit codes.

/// As std's, but a reader that goes away (`| head`) does not end the program: a run must
/// come to its checkpoint.
macro_rules! println {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arguments)*);
    }};
}

mod commands;
#[cfg(feature = "dashboard")]
mod dashboard;
mod data_arguments;
mod eval_arguments;
mod failure;
mod memory;
mod progress;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::data_arguments::DataCommand;
use crate::eval_arguments::{EvalCommand, ModelRest};
use clap::{Parser, Subcommand};
use couplet_eval::Format;
use couplet_train::{ConfigError, SweepError};
use tracing_subscriber::filter::LevelFilter;

/// Tensors come and go at every operation on the CPU; an allocator that hands their pages back
/// to the system each time costs a fifth of a step.
#[global_allocator]
static ALLOCATOR: couplet_alloc::Allocator = couplet_alloc::Allocator;

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
    /// Tell what a config's run will take: parameters, arithmetic, steps, memory, time. Its device
    /// may be another machine's.
    Plan(PlanArguments),
    /// Train a config many times with some keys set otherwise, and rank the results.
    Sweep(SweepArguments),
    /// Evaluate a model.
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Sort images by the texts that fit them best.
    Classify(ClassifyArguments),
    /// Write the features of images and texts to a file.
    Embed(EmbedArguments),
    /// Measure training steps.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Measure and look at training data.
    #[command(subcommand)]
    Data(DataCommand),
    /// Look at models and convert them.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Print the token ids of texts, one line a text.
    Tokenize(TokenizeArguments),
    /// Make tokenizers.
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
}

/// A model and where it runs.
#[derive(Debug, clap::Args)]
struct ModelArguments {
    /// A run's folder, a checkpoint, an open_clip or Hugging Face folder, or a file of
    /// weights (.pt, .bin, .safetensors).
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    rest: ModelRest,
}

#[derive(Debug, clap::Args)]
struct TrainArguments {
    /// The run's TOML file.
    config: PathBuf,
    /// Set a key of the config; values are TOML, anything else is taken as a string, and
    /// without one the key is taken away.
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
    /// Draw curves in the terminal; q asks how to stop. Needs `--features dashboard`.
    #[arg(long)]
    dashboard: bool,
}

#[derive(Debug, clap::Args)]
struct PlanArguments {
    /// The run's TOML file.
    config: PathBuf,
    /// Set a key of the config, as `couplet train` takes it.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Tokens of the captions, start and end included; by default the whole context.
    #[arg(long, value_name = "T", value_parser = at_least_two)]
    caption_tokens: Option<usize>,
    /// Tell the time at this speed.
    #[arg(long, value_name = "SAMPLES/S", conflicts_with = "measure", value_parser = above_zero)]
    speed: Option<f64>,
    /// Take some steps on random data, and tell the time at their speed.
    #[arg(long)]
    measure: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SweepArguments {
    /// The sweep's TOML file. What is done already is not done again.
    sweep: PathBuf,
    /// The sweep's folder; by default runs/NAME.
    #[arg(long)]
    run_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ClassifyArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// What the images may show, divided by commas; not needed of a model that was fine-tuned
    /// to tell classes.
    #[arg(long, value_delimiter = ',', value_name = "LABEL,LABEL…")]
    labels: Vec<String>,
    /// A sentence with {} for the label; may be repeated, the features are then averaged.
    #[arg(long, value_name = "TEXT", requires = "labels")]
    template: Vec<String>,
    /// How many labels are printed for each image.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Image files, or folders of them.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct EmbedArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Image files, or folders of them.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    images: Vec<PathBuf>,
    /// A file with one text a line; - for standard input.
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// FILE.safetensors for image_features and text_features with their names, or FILE.npy
    /// for one of the two.
    #[arg(long)]
    out: PathBuf,
    /// Leave the features as the towers make them, not L2-normalised.
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Time steps of AdamW and the image tower's forward pass on random data.
    Step(BenchStepArguments),
}

#[derive(Debug, clap::Args)]
struct BenchStepArguments {
    /// A preset's name, as `couplet model list` has them.
    #[arg(long)]
    model: String,
    /// Pairs in a step.
    #[arg(long)]
    batch: usize,
    /// Pairs in one pass; by default the whole batch.
    #[arg(long)]
    micro: Option<usize>,
    #[arg(long, default_value = "f32")]
    precision: PrecisionName,
    /// Where to run: auto, flex, cuda:N, rocm:N, metal, vulkan or wgpu.
    #[arg(long, default_value = "auto")]
    device: couplet_train::DeviceSetting,
    /// Tokens of each caption, start and end included; by default the whole context.
    #[arg(long, value_name = "T")]
    caption_tokens: Option<usize>,
    /// Steps that are timed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps before them.
    #[arg(long, default_value_t = 2)]
    warm_up: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
    F16,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// List the presets that `model.preset` takes.
    List,
    /// Tell the parts of a preset or a model, with parameters and GFLOPs.
    Describe(DescribeArguments),
    /// Write a model for open_clip or Hugging Face transformers.
    Convert(ConvertArguments),
}

#[derive(Debug, clap::Args)]
struct DescribeArguments {
    /// A preset's name, or a model as `--model` takes it.
    model: PathBuf,
    /// The architecture of weights that do not say: a preset, or an open_clip config file.
    #[arg(long, value_name = "NAME|FILE")]
    arch: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ConvertArguments {
    /// A run's folder, a checkpoint, an open_clip or Hugging Face folder, or a file of
    /// weights (.pt, .bin, .safetensors).
    model: PathBuf,
    /// The folder to write; it is made.
    out: PathBuf,
    #[arg(long)]
    format: FormatName,
    /// The architecture of weights that do not say: a preset, or an open_clip config file.
    #[arg(long, value_name = "NAME|FILE")]
    arch: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatName {
    /// open_clip's folder: `open_clip.create_model_and_transforms("local-dir:OUT")`.
    #[value(name = "open_clip", alias = "open-clip")]
    OpenClip,
    /// Hugging Face's: `CLIPModel.from_pretrained`, `CLIPProcessor.from_pretrained`.
    Hf,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::OpenClip => Self::OpenClip,
            FormatName::Hf => Self::HuggingFace,
        }
    }
}

#[derive(Debug, clap::Args)]
struct TokenizeArguments {
    /// `clip`, or a tokenizer.json.
    #[arg(long, default_value = "clip", value_name = "clip|FILE")]
    tokenizer: String,
    /// The most ids of a text, start and end included; the rest is cut off.
    #[arg(long, default_value_t = 77, value_parser = at_least_two)]
    context_length: usize,
    /// A file with one text a line; - for standard input.
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    text: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum TokenizerCommand {
    /// Learn a byte-pair encoding from captions.
    Train(TokenizerTrainArguments),
}

#[derive(Debug, clap::Args)]
struct TokenizerTrainArguments {
    /// Files with one caption a line; - for standard input.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    texts: Vec<PathBuf>,
    /// Token ids in all.
    #[arg(long)]
    vocab_size: usize,
    /// Pairs that are seen less often are not merged.
    #[arg(long, default_value_t = 2)]
    min_frequency: u64,
    /// The tokenizer.json to write.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    couplet_alloc::keep_freed_memory();
    memory::say_what_helps();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Arguments::parse().command {
        Command::Train(arguments) => commands::train::train(&arguments),
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::Sweep(arguments) => commands::sweep::run(&arguments),
        Command::Eval(command) => commands::eval::run(&command),
        Command::Classify(arguments) => commands::classify::run(&arguments),
        Command::Embed(arguments) => commands::embed::run(&arguments),
        Command::Bench(BenchCommand::Step(arguments)) => commands::bench::step(&arguments),
        Command::Data(command) => match command {
            DataCommand::Bench(arguments) => commands::data::bench::run(&arguments),
            DataCommand::Check(arguments) => commands::data::survey::check(&arguments),
            DataCommand::Stats(arguments) => commands::data::survey::stats(&arguments),
            DataCommand::Index(arguments) => commands::data::index::run(&arguments),
            DataCommand::Pack(arguments) => commands::data::pack::run(&arguments),
            DataCommand::Shapes(arguments) => commands::data::pack::shapes(&arguments),
        },
        Command::Model(ModelCommand::List) => commands::model::list(),
        Command::Model(ModelCommand::Describe(arguments)) => commands::model::describe(&arguments),
        Command::Model(ModelCommand::Convert(arguments)) => commands::model::convert(&arguments),
        Command::Tokenize(arguments) => commands::tokenize::tokenize(&arguments),
        Command::Tokenizer(TokenizerCommand::Train(arguments)) => {
            commands::tokenize::train(&arguments)
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::print(&error);
            let is_usage = error.is::<ConfigError>()
                || matches!(
                    error.downcast_ref(),
                    Some(SweepError::Table { .. } | SweepError::Config { .. })
                );
            ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_FAILED })
        }
    }
}

fn at_least_two(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(length) if length >= 2 => Ok(length),
        _ => Err("a whole number, at least 2 for start and end".into()),
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("a number above 0".into()),
    }
}
