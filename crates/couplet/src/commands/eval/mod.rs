//! `couplet eval`.

mod cache_arguments;
mod classification;
mod compare;
mod compositional;
mod curves;
pub(super) mod datasets;
mod few_shot;
mod list;
mod probe;
mod probe_inputs;
mod result_arguments;
mod retrieval;
mod suite;
mod zero_shot;

use std::path::Path;

use clap::Subcommand;

use super::output_file;
use crate::json_output::JsonArguments;

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
    /// Fit classifiers to a few training images of each class
    FewShot(few_shot::FewShotArguments),
    /// Tell captions and images that belong together from others of the same words
    Compositional(compositional::CompositionalArguments),
    /// Evaluate a model on several datasets, with the protocols that each allows
    Suite(suite::SuiteArguments),
    /// List the built-in datasets, and where to get their files
    Datasets(list::DatasetsArguments),
    /// Compare the evaluations that several runs logged
    Compare(compare::CompareArguments),
}

impl EvalCommand {
    /// Where results go as JSON.
    fn json(&self) -> &JsonArguments {
        match self {
            Self::ZeroShot(arguments) => &arguments.results.json,
            Self::Classification(arguments) => &arguments.results.json,
            Self::Retrieval(arguments) => &arguments.json,
            Self::LinearProbe(arguments) => &arguments.probe.results.json,
            Self::Knn(arguments) => &arguments.probe.results.json,
            Self::FewShot(arguments) => &arguments.json,
            Self::Compositional(arguments) => &arguments.json,
            Self::Suite(arguments) => &arguments.json,
            Self::Datasets(arguments) => &arguments.json,
            Self::Compare(arguments) => &arguments.json,
        }
    }

    /// Another file to write at the end.
    fn other_output(&self) -> Option<&Path> {
        let file = match self {
            Self::LinearProbe(arguments) => &arguments.out,
            Self::Suite(arguments) => &arguments.csv,
            Self::Compare(arguments) => &arguments.csv,
            _ => &None,
        };
        file.as_deref()
    }
}

pub(crate) fn run(command: &EvalCommand) -> anyhow::Result<u8> {
    command.json().begin()?;
    if let Some(file) = command.other_output() {
        output_file::check(file)?;
    }
    match command {
        EvalCommand::ZeroShot(arguments) => zero_shot::run(arguments),
        EvalCommand::Classification(arguments) => classification::run(arguments),
        EvalCommand::Retrieval(arguments) => retrieval::run(arguments),
        EvalCommand::LinearProbe(arguments) => probe::linear(arguments),
        EvalCommand::Knn(arguments) => probe::nearest(arguments),
        EvalCommand::FewShot(arguments) => few_shot::run(arguments),
        EvalCommand::Compositional(arguments) => compositional::run(arguments),
        EvalCommand::Suite(arguments) => suite::run(arguments),
        EvalCommand::Datasets(arguments) => list::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
    }
}
