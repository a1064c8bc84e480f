//! `couplet eval suite`.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use couplet_data::with_causes;
use couplet_eval::{
    Dataset, Encoder, EvalOptions, Metric, ProbeData, ProbeSettings, Report, SolverOptions, Task,
    knn, linear_probe, retrieval, zero_shot,
};

use super::cache_arguments::CacheArguments;
use super::datasets::{open_datasets, options, print_subjects, to_json};
use super::probe::warn_of_few_neighbours;
use super::result_arguments::write_text;
use crate::commands::config_arguments::DataArguments;
use crate::commands::model_arguments::ModelOptions;
use crate::exit_code;
use crate::failure;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::progress::{Progress, Screen, print_reports};

#[derive(Debug, Args)]
pub(crate) struct SuiteArguments {
    /// Model to open, unless --model gives it, and datasets to evaluate on: built-in ones (see
    /// `couplet eval datasets`), dataset files or datasets' folders
    #[arg(value_name = "MODEL|DATASET")]
    paths: Vec<PathBuf>,
    /// Model to open: a run's folder, a checkpoint, an open_clip or Hugging Face folder, a
    /// weights file (.pt, .bin, .safetensors), or a name such as ViT-B-32@openai or hf:org/name
    #[arg(long)]
    model: Option<PathBuf>,
    /// Dataset to evaluate on, as above. Repeat for several
    #[arg(long)]
    dataset: Vec<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
    /// Protocols to run after zero-shot classification on datasets with training images
    #[arg(long, value_delimiter = ',', value_name = "PROTOCOL")]
    also: Vec<ExtraProtocol>,
    #[command(flatten)]
    pub(super) json: JsonArguments,
    /// Write the results to this file as CSV, one row per metric
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cache: CacheArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExtraProtocol {
    LinearProbe,
    Knn,
}

const NEIGHBOURS: usize = 20;

/// Evaluates every dataset; one that fails is reported, and the others continue.
pub(super) fn run(arguments: &SuiteArguments) -> anyhow::Result<u8> {
    let (model, first) = match &arguments.model {
        Some(model) => (model, &arguments.paths[..]),
        None => (arguments.paths.split_first()).context("give the model, with --model or first")?,
    };
    let paths: Vec<&PathBuf> = first.iter().chain(&arguments.dataset).collect();
    if paths.is_empty() {
        bail!("give datasets, with --dataset or after the model");
    }
    let encoder = arguments.options.open(model)?;
    let cache = arguments.cache.open(&encoder);
    let mut reports = Vec::new();
    let mut failures = Vec::new();
    let mut datasets = Vec::new();
    for path in paths {
        match open_datasets(std::slice::from_ref(path), &arguments.data, &encoder) {
            Ok(opened)
                if opened.iter().any(|set| {
                    datasets
                        .iter()
                        .any(|known: &Dataset| known.name == set.name)
                }) =>
            {
                let name = &opened[0].name;
                failures.push(anyhow!(
                    "{}: another dataset is named `{name}` too; rename one of them in its file",
                    path.display()
                ));
            }
            Ok(opened) => datasets.extend(opened),
            Err(error) => {
                failures.push(error.context(format!("{}: cannot be opened", path.display())));
            }
        }
    }
    print_subjects(&encoder, &datasets);
    for dataset in &datasets {
        match evaluate(&encoder, dataset, &arguments.also, options(cache.as_ref())) {
            Ok(found) => reports.extend(found),
            Err(error) => {
                failures.push(error.context(format!("{}: cannot be evaluated", dataset.name)));
            }
        }
    }
    print_reports(&reports);
    for failure in &failures {
        failure::print(failure);
    }
    (arguments.json).write(&to_json(&reports, &encoder, &datasets)?)?;
    if let Some(file) = &arguments.csv {
        write_text(file, csv(&reports))?;
    }
    Ok(if failures.is_empty() {
        exit_code::DONE
    } else {
        exit_code::FAILED
    })
}

fn evaluate(
    encoder: &Encoder,
    dataset: &Dataset,
    also: &[ExtraProtocol],
    options: EvalOptions,
) -> anyhow::Result<Vec<Report>> {
    let mut progress = Progress::new();
    let images = dataset.images.len();
    let show = |done| progress.evaluating(&dataset.name, done, images);
    let report = match dataset.task {
        Task::Classify { .. } => {
            zero_shot(encoder, dataset, options, show).map(|found| found.report)
        }
        Task::Retrieve => retrieval(encoder, dataset, options, show),
    };
    progress.finish();
    let mut reports = vec![report?];
    if also.is_empty() || dataset.task == Task::Retrieve {
        return Ok(reports);
    }
    if let Err(error) = dataset.train_images() {
        let why = with_causes(&error);
        printing::note(&format!("{}: skipping --also: {why}", dataset.name));
        return Ok(reports);
    }
    let mut progress = Progress::new();
    let data = ProbeData::extract(encoder, dataset, options, |part, done, of| {
        if part == "training images" {
            progress.evaluating(&format!("{} {part}", dataset.name), done, of);
        }
    });
    progress.finish();
    let data = data?;
    for protocol in also {
        reports.push(match protocol {
            ExtraProtocol::LinearProbe => {
                let settings = ProbeSettings {
                    c: None,
                    search: SolverOptions::default(),
                };
                linear_probe(&data, settings, |_, _| {})?.report
            }
            ExtraProtocol::Knn => {
                warn_of_few_neighbours(&data, NEIGHBOURS);
                knn(&data, NEIGHBOURS).0
            }
        });
    }
    Ok(reports)
}

fn csv(reports: &[Report]) -> String {
    let mut text = "dataset,protocol,metric,value,images\n".to_string();
    for report in reports {
        for metric in &report.metrics.0 {
            let (Metric { info, .. }, value) = (metric, metric.logged());
            let (name, protocol, images) = (&report.dataset, report.protocol, report.images);
            let metric = info.name;
            text.push_str(&format!("{name},{protocol},{metric},{value},{images}\n"));
        }
    }
    text
}
