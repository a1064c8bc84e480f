//! `couplet eval suite`.

use std::fs;

use anyhow::{Context, anyhow};
use couplet_data::with_causes;
use couplet_eval::{
    Dataset, Encoder, EvalOptions, Metric, ProbeData, ProbeSettings, Report, SolverOptions, Task,
    knn, linear_probe, retrieval, zero_shot,
};

use super::{open_cache, open_datasets, open_model, options, tell_skipped, write_json};
use crate::EXIT_FAILED;
use crate::eval_arguments::{ExtraProtocol, SuiteArguments};
use crate::failure;
use crate::progress::{Progress, Screen, print_reports};

const NEIGHBOURS: usize = 20;

/// Every dataset; one that fails is named, and the others go on.
pub(super) fn run(arguments: &SuiteArguments) -> anyhow::Result<u8> {
    let encoder = open_model(&arguments.rest.for_model(&arguments.model))?;
    let cache = open_cache(&arguments.cache, &encoder);
    let mut reports = Vec::new();
    let mut failures = Vec::new();
    let mut datasets = Vec::new();
    for path in &arguments.datasets {
        match open_datasets(std::slice::from_ref(path), &encoder) {
            Ok(opened)
                if opened.iter().any(|set| {
                    datasets
                        .iter()
                        .any(|known: &Dataset| known.name == set.name)
                }) =>
            {
                let name = &opened[0].name;
                failures.push(anyhow!(
                    "{}: a second dataset is named `{name}`",
                    path.display()
                ));
            }
            Ok(opened) => datasets.extend(opened),
            Err(error) => {
                failures.push(error.context(format!("{}: cannot be opened", path.display())));
            }
        }
    }
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
    if let Some(file) = &arguments.json {
        write_json(file, &reports)?;
    }
    if let Some(file) = &arguments.csv {
        fs::write(file, csv(&reports))
            .with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    Ok(if failures.is_empty() { 0 } else { EXIT_FAILED })
}

fn evaluate(
    encoder: &Encoder,
    dataset: &Dataset,
    also: &[ExtraProtocol],
    options: EvalOptions,
) -> anyhow::Result<Vec<Report>> {
    let mut progress = Progress::new();
    let images = dataset.images.len();
    let tell = |done| progress.evaluating(&dataset.name, done, images);
    let (report, skipped) = match dataset.task {
        Task::Classify { .. } => {
            let found = zero_shot(encoder, dataset, options, tell)?;
            (found.report, found.skipped)
        }
        Task::Retrieve => retrieval(encoder, dataset, options, tell)?,
    };
    progress.finish();
    tell_skipped(&skipped);
    let mut reports = vec![report];
    if also.is_empty() || dataset.task == Task::Retrieve {
        return Ok(reports);
    }
    if let Err(error) = dataset.train_images() {
        eprintln!("{}: no probe: {}", dataset.name, with_causes(&error));
        return Ok(reports);
    }
    let mut progress = Progress::new();
    let data = ProbeData::extract(encoder, dataset, options, |part, done, of| {
        if part == "training images" {
            progress.evaluating(&format!("{} {part}", dataset.name), done, of);
        }
    })?;
    progress.finish();
    for protocol in also {
        reports.push(match protocol {
            ExtraProtocol::LinearProbe => {
                let settings = ProbeSettings {
                    c: None,
                    search: SolverOptions::default(),
                };
                linear_probe(&data, settings, |_, _| {}).report
            }
            ExtraProtocol::Knn => knn(&data, NEIGHBOURS).0,
        });
    }
    Ok(reports)
}

fn csv(reports: &[Report]) -> String {
    let mut text = "dataset,protocol,metric,value,images\n".to_string();
    for report in reports {
        for Metric { info, value } in &report.metrics.0 {
            let (name, protocol, images) = (&report.dataset, report.protocol, report.images);
            let metric = info.name;
            text.push_str(&format!("{name},{protocol},{metric},{value},{images}\n"));
        }
    }
    text
}
