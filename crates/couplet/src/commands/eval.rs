//! `couplet eval`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use couplet_data::DEFAULT_MAX_IMAGE_PIXELS;
use couplet_eval::{DatasetTable, zero_shot as evaluate};

use super::open_model;
use crate::ZeroShotArguments;
use crate::progress::{Progress, Screen, print_reports};

pub(crate) fn zero_shot(arguments: &ZeroShotArguments) -> anyhow::Result<u8> {
    let encoder = open_model(&arguments.model)?;
    let image_size = encoder.transform().image_size();
    let mut reports = Vec::new();
    for path in &arguments.dataset {
        let dataset = open_dataset(path)?.open(image_size)?;
        let mut progress = Progress::new();
        let (report, skipped) = evaluate(&encoder, &dataset, DEFAULT_MAX_IMAGE_PIXELS, |done| {
            progress.evaluating(&dataset.name, done, dataset.images.len());
        })?;
        progress.finish();
        for sample in skipped {
            eprintln!(
                "skipped {}: {}: {}",
                sample.shard, sample.cause, sample.detail
            );
        }
        reports.push(report);
    }
    print_reports(&reports);
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&reports)?;
        fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    Ok(0)
}

fn open_dataset(path: &Path) -> anyhow::Result<DatasetTable> {
    DatasetTable::read(path).context("--dataset takes a file of datasets/ or a folder of classes")
}
