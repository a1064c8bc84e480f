//! `couplet eval classification`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use couplet_data::formats::class_names::class_name_of;
use couplet_eval::classification;

use super::cache_arguments::CacheArguments;
use super::datasets::{open_datasets, options, print_subjects, to_json};
use super::result_arguments::ResultArguments;
use crate::commands::config_arguments::DataArguments;
use crate::commands::model_arguments::ModelArguments;
use crate::exit_code;
use crate::progress::{Progress, Screen, print_reports};

#[derive(Debug, Args)]
pub(crate) struct ClassificationArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Dataset with the classes that the model was fine-tuned to: a built-in one (see `couplet eval
    /// datasets`), a dataset file or a dataset's folder. Repeat for several
    #[arg(long, required = true)]
    dataset: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) results: ResultArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cache: CacheArguments,
}

pub(super) fn run(arguments: &ClassificationArguments) -> anyhow::Result<u8> {
    let encoder = arguments.model.open()?;
    let model = arguments.model.path.display();
    let head = encoder.head().with_context(|| {
        format!(
            "{model}: the model has no classification head; train one with a config that has \
             [classify] (see docs/fine-tuning.md)"
        )
    })?;
    let datasets = open_datasets(&arguments.dataset, &arguments.data, &encoder)?;
    print_subjects(&encoder, &datasets);
    let cache = arguments.cache.open(&encoder);
    let mut reports = Vec::new();
    for dataset in &datasets {
        let (class_names, _) = dataset.classes()?;
        // Heads of earlier versions have the names as they are stored.
        let is_same = |a: &String, b: &String| class_name_of(a) == class_name_of(b);
        if class_names.len() != head.class_names.len()
            || !(class_names.iter().zip(&head.class_names)).all(|(a, b)| is_same(a, b))
        {
            bail!(
                "{}: its classes are {}, but the model's head has {}",
                dataset.name,
                class_names.join(", "),
                head.class_names.join(", ")
            );
        }
        let mut progress = Progress::new();
        let found = classification(
            &encoder,
            &head.classifier,
            dataset,
            options(cache.as_ref()),
            |done| progress.evaluating(&dataset.name, done, dataset.images.len()),
        );
        progress.finish();
        let found = found?;
        if let Some(confusion) = &found.confusion {
            arguments.results.write_details(&dataset.name, confusion)?;
        }
        reports.push(found.report);
    }
    print_reports(&reports);
    let json = &arguments.results.json;
    json.write(&to_json(&reports, &encoder, &datasets)?)?;
    Ok(exit_code::DONE)
}
