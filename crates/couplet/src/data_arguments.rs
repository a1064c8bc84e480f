//! Arguments of `couplet data`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Load a config's training data without training: samples/s, and where the time goes.
    Bench(DataBenchArguments),
    /// Read every sample of a config's training data and tell which are bad; ends with 1 if
    /// any is.
    Check(DataCheckArguments),
    /// Read every sample and tell sizes, caption lengths and repetitions.
    Stats(DataConfigArguments),
    /// Write an index beside tar shards, so that a run needs not read their headers.
    Index(DataIndexArguments),
    /// Write a config's training data as shards, or in another format.
    Pack(DataPackArguments),
    /// Write pictures of `shapes` as files.
    Shapes(DataShapesArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DataConfigArguments {
    /// The run's TOML file.
    pub config: PathBuf,
    /// Set a key of the config, as `couplet train` takes it.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DataCheckArguments {
    /// The run's TOML file.
    pub config: PathBuf,
    /// Set a key of the config, as `couplet train` takes it.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// Write all bad samples to this file, a JSON object a line as in skipped.jsonl.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DataIndexArguments {
    /// Tar files; {0000..0127}, {a,b}, * and ? are expanded.
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PackTarget {
    /// The folder to write; it is made, and must be empty.
    pub out: PathBuf,
    #[arg(long, default_value = "webdataset")]
    pub format: PackFormatName,
    /// Samples in a tar shard or a Parquet file.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub samples_per_shard: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PackFormatName {
    /// Tar shards with .txt captions.
    Webdataset,
    /// pairs.csv with columns filepath and title.
    Csv,
    /// Images with a .txt beside each.
    Folder,
    /// Tables with columns image and caption (feature `parquet`).
    Parquet,
    /// A folder a class, without captions: of shapes alone.
    ClassFolder,
}

#[derive(Debug, Args)]
pub(crate) struct DataPackArguments {
    /// The run's TOML file.
    pub config: PathBuf,
    #[command(flatten)]
    pub target: PackTarget,
    /// Set a key of the config, as `couplet train` takes it.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// Resize images whose shorter side is longer than this to it, as JPEGs of quality 95.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub resize: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct DataShapesArguments {
    #[command(flatten)]
    pub target: PackTarget,
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: u32,
    #[arg(long, default_value_t = 64)]
    pub image_size: u32,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct DataBenchArguments {
    /// The run's TOML file.
    pub config: PathBuf,
    /// Set a key of the config, as `couplet train` takes it.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// How long to measure, after two batches of warming up.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Say whether a device that takes so many samples/s would have to wait.
    #[arg(long, value_name = "SAMPLES/S")]
    pub device_speed: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
