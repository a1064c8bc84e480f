//! `couplet eval`.

mod cache_arguments;
mod classification;
mod compare;
mod datasets;
mod list;
mod probe;
mod result_arguments;
mod retrieval;
mod suite;
mod zero_shot;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output_file;

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
    /// List the built-in datasets, and where to get their files
    Datasets(list::DatasetsArguments),
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
            Self::Datasets(arguments) => vec![&arguments.json],
            Self::Compare(arguments) => vec![&arguments.json, &arguments.csv],
        };
        files.into_iter().flatten().map(PathBuf::as_path).collect()
    }
}

pub(crate) fn run(command: &EvalCommand) -> anyhow::Result<u8> {
    for file in command.outputs() {
        output_file::check(file)?;
    }
    match command {
        EvalCommand::ZeroShot(arguments) => zero_shot::run(arguments),
        EvalCommand::Classification(arguments) => classification::run(arguments),
        EvalCommand::Retrieval(arguments) => retrieval::run(arguments),
        EvalCommand::LinearProbe(arguments) => probe::linear(arguments),
        EvalCommand::Knn(arguments) => probe::nearest(arguments),
        EvalCommand::Suite(arguments) => suite::run(arguments),
        EvalCommand::Datasets(arguments) => list::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
    }
}
