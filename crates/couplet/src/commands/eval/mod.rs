//! `couplet eval`.

mod cache_arguments;
mod classification;
mod compare;
mod probe;
mod result_arguments;
mod retrieval;
mod suite;
mod zero_shot;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Subcommand;
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, Skipped};
use couplet_eval::{Dataset, DatasetConfig, Encoder, EvalOptions, FeatureCache};

/// Worst confusions to print.
const WORST: usize = 5;
/// Maximum number of bad images to print.
const SHOWN: usize = 20;

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Classify images zero-shot, by the names of their classes
    ZeroShot(zero_shot::ZeroShotArguments),
    /// Classify images with the head of a fine-tuned model
    Classification(classification::ClassificationArguments),
    /// Retrieve captions for images and images for captions
    Retrieval(retrieval::RetrievalArguments),
    /// Fit a logistic regression to the features of a dataset's training images
    LinearProbe(probe::LinearProbeArguments),
    /// Classify images by their nearest neighbors among a dataset's training images
    Knn(probe::KnnArguments),
    /// Evaluate a model on several datasets, with the protocols that each allows
    Suite(suite::SuiteArguments),
    /// Compare the evaluations that several runs logged
    Compare(compare::CompareArguments),
}

impl EvalCommand {
    /// The result files to write at the end.
    fn outputs(&self) -> Vec<&Path> {
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

pub(crate) fn run(command: &EvalCommand) -> anyhow::Result<u8> {
    result_arguments::check_folders(&command.outputs())?;
    match command {
        EvalCommand::ZeroShot(arguments) => zero_shot::run(arguments),
        EvalCommand::Classification(arguments) => classification::run(arguments),
        EvalCommand::Retrieval(arguments) => retrieval::run(arguments),
        EvalCommand::LinearProbe(arguments) => probe::linear(arguments),
        EvalCommand::Knn(arguments) => probe::nearest(arguments),
        EvalCommand::Suite(arguments) => suite::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
    }
}

/// Opens every dataset before the first is evaluated, so that wrong names fail at once.
fn open_datasets(paths: &[PathBuf], encoder: &Encoder) -> anyhow::Result<Vec<Dataset>> {
    let image_size = encoder.transform().image_size();
    let open = |path: &PathBuf| -> anyhow::Result<Dataset> {
        if !path.exists() {
            bail!(
                "{}: no such dataset; expected a file of datasets/, a folder with one sub-folder per \
                 class, or a CLIP_benchmark folder of tar shards",
                path.display()
            );
        }
        Ok(DatasetConfig::read(path)?.open(image_size)?)
    };
    let datasets = paths.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let mut names = HashSet::new();
    if let Some(twice) = datasets.iter().find(|set| !names.insert(&set.name)) {
        bail!(
            "two datasets are named `{}`; rename one of them in its file",
            twice.name
        );
    }
    Ok(datasets)
}

fn options(cache: Option<&FeatureCache>) -> EvalOptions<'_> {
    EvalOptions {
        max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
        cache,
    }
}

fn print_skipped(skipped: &[Skipped]) {
    for sample in skipped.iter().take(SHOWN) {
        eprintln!("skipped {sample}");
    }
    if skipped.len() > SHOWN {
        eprintln!("… and {} more", skipped.len() - SHOWN);
    }
}
