//! Arguments of `couplet eval`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::ModelArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Classify images by the names of their classes alone.
    ZeroShot(ZeroShotArguments),
    /// Classify images by the head of a fine-tuned model.
    Classification(ClassificationArguments),
    /// Find captions of images and images of captions.
    Retrieval(RetrievalArguments),
    /// Fit logistic regression to frozen features of training images.
    LinearProbe(LinearProbeArguments),
    /// Classify by the nearest training images.
    Knn(KnnArguments),
    /// Evaluate a model on many datasets, by each protocol that fits.
    Suite(SuiteArguments),
    /// Put the evaluations of several runs side by side.
    Compare(CompareArguments),
}

impl EvalCommand {
    /// The files that are written at its end.
    pub fn outputs(&self) -> Vec<&Path> {
        let files = match self {
            Self::ZeroShot(arguments) => vec![&arguments.results.json],
            Self::Classification(arguments) => vec![&arguments.results.json],
            Self::Retrieval(arguments) => vec![&arguments.json],
            Self::LinearProbe(arguments) => vec![&arguments.probe.results.json, &arguments.out],
            Self::Knn(arguments) => vec![&arguments.probe.results.json],
            Self::Suite(arguments) => vec![&arguments.json, &arguments.csv],
            Self::Compare(arguments) => vec![&arguments.json, &arguments.csv],
        };
        files.into_iter().flatten().map(PathBuf::as_path).collect()
    }
}

/// Where features are kept, so that no protocol computes them again.
#[derive(Debug, Clone, Args)]
pub(crate) struct CacheArguments {
    /// The folder of kept features; by default `couplet` in the user's cache folder.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Compute features anew and keep none.
    #[arg(long, conflicts_with = "cache")]
    pub no_cache: bool,
}

/// Where the results of a classification are written, beside the terminal.
#[derive(Debug, Args)]
pub(crate) struct ResultArguments {
    /// Write how each class did and which are taken for which into this folder, as
    /// DATASET-classes.csv and DATASET-confusion.svg.
    #[arg(long, value_name = "DIR")]
    pub details: Option<PathBuf>,
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ZeroShotArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// A file of datasets/, a folder with one sub-folder a class, or CLIP_benchmark's folder of
    /// tar shards; may be repeated.
    #[arg(long, required = true)]
    pub dataset: Vec<PathBuf>,
    /// Judge the first template and the class names alone beside the ensemble.
    #[arg(long)]
    pub compare_prompts: bool,
    #[command(flatten)]
    pub results: ResultArguments,
    #[command(flatten)]
    pub cache: CacheArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ClassificationArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// A file of datasets/, a folder with one sub-folder a class, or CLIP_benchmark's folder of
    /// tar shards, with the classes that the model was fine-tuned to; may be repeated.
    #[arg(long, required = true)]
    pub dataset: Vec<PathBuf>,
    #[command(flatten)]
    pub results: ResultArguments,
    #[command(flatten)]
    pub cache: CacheArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RetrievalArguments {
    #[command(flatten)]
    pub model: OptionalModel,
    /// A file of datasets/, or CLIP_benchmark's folder of tar shards; may be repeated.
    #[arg(long, required_unless_present = "features")]
    pub dataset: Vec<PathBuf>,
    /// Judge features that were computed before: a safetensors file with image_features,
    /// text_features and, unless each image has as many captions in a row, image_of_text.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dataset", "model"])]
    pub features: Option<PathBuf>,
    /// Captions of each image, one image's after the other's, in a file of features.
    #[arg(long, value_name = "N", requires = "features")]
    pub captions_per_image: Option<usize>,
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArguments,
}

/// What a probe is fitted to and judged by.
#[derive(Debug, Args)]
pub(crate) struct ProbeArguments {
    #[command(flatten)]
    pub model: OptionalModel,
    /// A file of datasets/ that names training images too; may be repeated.
    #[arg(long, required_unless_present = "features")]
    pub dataset: Vec<PathBuf>,
    /// Fit to features that were computed before: a safetensors file with image_features and
    /// labels.
    #[arg(long, value_name = "FILE", requires = "test_features", conflicts_with_all = ["dataset", "model"])]
    pub features: Option<PathBuf>,
    /// The same of the images that it is judged by.
    #[arg(long, value_name = "FILE", requires = "features")]
    pub test_features: Option<PathBuf>,
    #[command(flatten)]
    pub results: ResultArguments,
    #[command(flatten)]
    pub cache: CacheArguments,
}

#[derive(Debug, Args)]
pub(crate) struct LinearProbeArguments {
    #[command(flatten)]
    pub probe: ProbeArguments,
    /// The inverse strength of the regularisation, scikit-learn's C. Without it, the paper's
    /// sweep from 1e-6 to 1e6 finds it on every fifth training image.
    #[arg(short = 'C', long = "c", value_name = "C", value_parser = positive)]
    pub c: Option<f64>,
    /// The most steps of L-BFGS.
    #[arg(long, default_value_t = 1000)]
    pub max_iter: u64,
    /// Where no part of the gradient is larger, L-BFGS ends; scikit-learn's tol.
    #[arg(long, default_value_t = 1e-4, value_parser = positive)]
    pub tol: f64,
    /// Write the fitted classifier to this safetensors file: coef and intercept.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KnnArguments {
    #[command(flatten)]
    pub probe: ProbeArguments,
    /// Neighbours that vote.
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
}

#[derive(Debug, Args)]
pub(crate) struct SuiteArguments {
    /// A run's folder, a checkpoint, an open_clip or Hugging Face folder, or a file of
    /// weights (.pt, .bin, .safetensors).
    pub model: PathBuf,
    /// Files of datasets/, or folders that datasets lie in.
    #[arg(required = true)]
    pub datasets: Vec<PathBuf>,
    #[command(flatten)]
    pub rest: ModelRest,
    /// Beside zero-shot classification or retrieval, what the set allows.
    #[arg(long, value_delimiter = ',')]
    pub also: Vec<ExtraProtocol>,
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the results to this file as a table, a row for each number.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExtraProtocol {
    LinearProbe,
    Knn,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Write the table to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the table to this file.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// A model that is not needed where features are given.
#[derive(Debug, Args)]
pub(crate) struct OptionalModel {
    /// A run's folder, a checkpoint, an open_clip or Hugging Face folder, or a file of
    /// weights (.pt, .bin, .safetensors).
    #[arg(long, required_unless_present = "features")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub rest: ModelRest,
}

/// What else is said of a model.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelRest {
    /// The architecture of weights that do not say: a preset, or an open_clip config file.
    #[arg(long, value_name = "NAME|FILE")]
    pub arch: Option<String>,
    /// Replace a value of the model's preprocessing: mean, std, interpolation, resize_mode
    /// or fill_color.
    #[arg(long, value_name = "preprocess.KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to run: auto, flex, cuda:N, rocm:N, metal, vulkan or wgpu.
    #[arg(long, default_value = "auto")]
    pub device: couplet_train::DeviceSetting,
}

impl ModelRest {
    pub fn for_model(&self, model: &Path) -> ModelArguments {
        ModelArguments {
            model: model.to_path_buf(),
            rest: self.clone(),
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    let value = value.filter(|value| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "a positive number".into())
}
