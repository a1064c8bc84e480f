//! `couplet eval zero-shot`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_data::printable_path;
use couplet_eval::{PromptMode, Report, zero_shot_by};

use super::cache_arguments::CacheArguments;
use super::datasets::{WORST, open_changed, options, print_subjects, to_json};
use super::result_arguments::ResultArguments;
use crate::commands::config_arguments::DataArguments;
use crate::commands::model_arguments::ModelArguments;
use crate::exit_code;
use crate::printing;
use crate::progress::{Progress, Screen, print_reports};
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct ZeroShotArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Dataset to evaluate on: a built-in one (see `couplet eval datasets`), a dataset file or a
    /// dataset's folder. Repeat for several
    #[arg(long, required = true)]
    dataset: Vec<PathBuf>,
    /// Also report the accuracy with the first template only, and with bare class names
    #[arg(long)]
    compare_prompts: bool,
    /// Class names to use instead of the dataset's, in class order: one per line, or JSON, where
    /// FILE.json#it.imagenet1k is a list in nested objects. For one dataset
    #[arg(long, value_name = "FILE[#KEY]")]
    classnames: Option<PathBuf>,
    /// Templates to use instead of the dataset's, from such a file
    #[arg(long, value_name = "FILE[#KEY]")]
    templates: Option<PathBuf>,
    #[command(flatten)]
    pub(super) results: ResultArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    cache: CacheArguments,
}

pub(super) fn run(arguments: &ZeroShotArguments) -> anyhow::Result<u8> {
    let encoder = arguments.model.open()?;
    let (class_names, templates) = (&arguments.classnames, &arguments.templates);
    if class_names.is_some() && arguments.dataset.len() > 1 {
        bail!("--classnames is for one dataset; evaluate one after the other");
    }
    let datasets = open_changed(&arguments.dataset, &arguments.data, &encoder, |config| {
        if let Some(file) = class_names {
            let replaced = config.replace_lists(Some(file), None);
            replaced.with_context(|| unusable("--classnames", file))?;
        }
        if let Some(file) = templates {
            let replaced = config.replace_lists(None, Some(file));
            replaced.with_context(|| unusable("--templates", file))?;
        }
        Ok(())
    })?;
    print_subjects(&encoder, &datasets);
    let cache = arguments.cache.open(&encoder);
    let prompts = if arguments.compare_prompts {
        &PromptMode::ALL[..]
    } else {
        &[PromptMode::Ensemble]
    };
    let mut reports = Vec::new();
    let mut others = Vec::new();
    for dataset in &datasets {
        let mut progress = Progress::new();
        let found = zero_shot_by(
            &encoder,
            dataset,
            prompts,
            options(cache.as_ref()),
            |done| {
                progress.evaluating(&dataset.name, done, dataset.images.len());
            },
        );
        progress.finish();
        let mut found = found?.into_iter().zip(prompts);
        let Some((ensemble, _)) = found.next() else {
            continue;
        };
        if let Some(confusion) = &ensemble.confusion {
            arguments.results.write_details(&dataset.name, confusion)?;
        }
        let mut rows = vec![(PromptMode::Ensemble, ensemble.report.clone())];
        rows.extend(found.map(|(other, prompts)| (*prompts, other.report)));
        if arguments.compare_prompts {
            print_prompts(&dataset.name, &rows);
        }
        let worst = ensemble
            .confusion
            .map_or(Vec::new(), |c| c.worst_in_words(WORST));
        others.push((dataset.name.clone(), rows, worst));
        reports.push(ensemble.report);
    }
    print_reports(&reports);
    for (name, _, worst) in others
        .iter()
        .filter(|_| arguments.results.details.is_some())
    {
        for line in worst {
            printing::line(&format!("{name}: {line}"));
        }
    }
    if arguments.results.json.is_given() {
        let values = to_json(&reports, &encoder, &datasets)?;
        let with_prompts: Vec<serde_json::Value> = (values.into_iter().zip(&others))
            .map(|(mut value, (_, rows, worst))| {
                if arguments.compare_prompts {
                    let by_name = rows.iter().map(|(prompts, report)| {
                        Ok((prompts.to_string(), serde_json::to_value(&report.metrics)?))
                    });
                    let by_name: serde_json::Result<serde_json::Map<_, _>> = by_name.collect();
                    value["prompts"] = by_name?.into();
                }
                value["worst_confusions"] = worst.clone().into();
                Ok(value)
            })
            .collect::<serde_json::Result<_>>()?;
        arguments.results.json.write(&with_prompts)?;
    }
    Ok(exit_code::DONE)
}

fn unusable(flag: &str, file: &Path) -> String {
    format!("{flag} {} cannot be used", printable_path(file))
}

/// Prints the metrics of each prompt mode.
fn print_prompts(name: &str, rows: &[(PromptMode, Report)]) {
    let metrics = rows[0].1.metrics.0.iter();
    let labels = metrics.map(|metric| metric.info.label.to_string());
    let mut table = Table::new(std::iter::once(name.to_string()).chain(labels).collect());
    for (prompts, report) in rows {
        let values = report.metrics.0.iter().map(ToString::to_string);
        table.row(std::iter::once(prompts.to_string()).chain(values).collect());
    }
    printing::block(&(table.render(terminal::table_columns()) + "\n"));
}
