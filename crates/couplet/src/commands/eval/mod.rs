//! `couplet eval`.

mod compare;
mod probe;
mod suite;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, Skipped};
use couplet_eval::{
    ConfusionMatrix, Dataset, DatasetConfig, Encoder, EvalOptions, FeatureCache, FeatureFile,
    PromptMode, Report, classification, retrieval, retrieval_of_features, zero_shot_by,
};

use super::open_model;
use crate::eval_arguments::{
    CacheArguments, ClassificationArguments, EvalCommand, OptionalModel, RetrievalArguments,
    ZeroShotArguments,
};
use crate::progress::{Progress, Screen, print_reports};

/// Confusions that are said in words.
const WORST: usize = 5;
/// Bad images that are printed.
const SHOWN: usize = 20;

pub(crate) fn run(command: &EvalCommand) -> anyhow::Result<u8> {
    // Before hours of work that could not be written down.
    for file in command.outputs() {
        let folder = file.parent().filter(|folder| *folder != Path::new(""));
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            bail!(
                "{}: there is no folder {}",
                file.display(),
                folder.display()
            );
        }
    }
    match command {
        EvalCommand::ZeroShot(arguments) => zero_shot(arguments),
        EvalCommand::Classification(arguments) => classify(arguments),
        EvalCommand::Retrieval(arguments) => find(arguments),
        EvalCommand::LinearProbe(arguments) => probe::linear(arguments),
        EvalCommand::Knn(arguments) => probe::nearest(arguments),
        EvalCommand::Suite(arguments) => suite::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
    }
}

fn zero_shot(arguments: &ZeroShotArguments) -> anyhow::Result<u8> {
    let encoder = open_model(&arguments.model)?;
    let datasets = open_datasets(&arguments.dataset, &encoder)?;
    let cache = open_cache(&arguments.cache, &encoder);
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
        )?;
        progress.finish();
        let mut found = found.into_iter().zip(prompts);
        let Some((ensemble, _)) = found.next() else {
            continue;
        };
        tell_skipped(&ensemble.skipped);
        if let Some(confusion) = &ensemble.confusion {
            write_details(
                arguments.results.details.as_deref(),
                &dataset.name,
                confusion,
            )?;
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
            println!("{name}: {line}");
        }
    }
    if let Some(file) = &arguments.results.json {
        let with_prompts: Vec<serde_json::Value> = (reports.iter().zip(&others))
            .map(|(report, (_, rows, worst))| {
                let mut value = serde_json::to_value(report)?;
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
        write_json(file, &with_prompts)?;
    }
    Ok(0)
}

fn classify(arguments: &ClassificationArguments) -> anyhow::Result<u8> {
    let encoder = open_model(&arguments.model)?;
    let model = arguments.model.model.display();
    let head = encoder.head().with_context(|| {
        format!(
            "{model}: the model has no head; one is trained by a config with [classify] (README, \
             \"Fine-tuning\")"
        )
    })?;
    let datasets = open_datasets(&arguments.dataset, &encoder)?;
    let cache = open_cache(&arguments.cache, &encoder);
    let mut reports = Vec::new();
    for dataset in &datasets {
        let (class_names, _) = dataset.classes()?;
        if class_names != head.class_names {
            bail!(
                "{}: its classes are {}, the head's {}",
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
        )?;
        progress.finish();
        tell_skipped(&found.skipped);
        if let Some(confusion) = &found.confusion {
            write_details(
                arguments.results.details.as_deref(),
                &dataset.name,
                confusion,
            )?;
        }
        reports.push(found.report);
    }
    print_reports(&reports);
    if let Some(file) = &arguments.results.json {
        write_json(file, &reports)?;
    }
    Ok(0)
}

/// The ways of prompting side by side.
fn print_prompts(name: &str, rows: &[(PromptMode, Report)]) {
    let metrics = rows[0].1.metrics.0.iter();
    let head: Vec<String> = metrics
        .map(|metric| format!("  {:>14}", metric.info.name))
        .collect();
    println!("{name:18}{}", head.concat());
    for (prompts, report) in rows {
        let metrics = report.metrics.0.iter();
        let values: Vec<String> = metrics.map(|metric| format!("  {metric:>14}")).collect();
        println!("  {:16}{}", prompts.to_string(), values.concat());
    }
    println!();
}

fn find(arguments: &RetrievalArguments) -> anyhow::Result<u8> {
    let mut reports = Vec::new();
    if let Some(path) = &arguments.features {
        let file = FeatureFile::read(path)?;
        let device = open_device(&arguments.model)?;
        let name = path.display().to_string();
        let each = arguments.captions_per_image;
        reports.push(retrieval_of_features(&name, &file, each, &device)?);
    } else {
        let encoder = open_optional(&arguments.model)?;
        let cache = open_cache(&arguments.cache, &encoder);
        for dataset in open_datasets(&arguments.dataset, &encoder)? {
            let mut progress = Progress::new();
            let found = retrieval(&encoder, &dataset, options(cache.as_ref()), |done| {
                progress.evaluating(&dataset.name, done, dataset.images.len());
            });
            progress.finish();
            let (report, skipped) = found?;
            tell_skipped(&skipped);
            reports.push(report);
        }
    }
    print_reports(&reports);
    if let Some(file) = &arguments.json {
        write_json(file, &reports)?;
    }
    Ok(0)
}

fn open_optional(arguments: &OptionalModel) -> anyhow::Result<Encoder> {
    let model = arguments.model.as_ref().context("--model is missing")?;
    open_model(&arguments.rest.for_model(model))
}

fn open_device(arguments: &OptionalModel) -> anyhow::Result<burn::tensor::Device> {
    arguments
        .rest
        .device
        .open()
        .context("--device cannot be used")
}

/// All of them, before the first is evaluated: a wrong name should not cost an hour.
fn open_datasets(paths: &[PathBuf], encoder: &Encoder) -> anyhow::Result<Vec<Dataset>> {
    let image_size = encoder.transform().image_size();
    let open = |path: &PathBuf| -> anyhow::Result<Dataset> {
        if !path.exists() {
            bail!(
                "{}: there is none; a dataset is a file of datasets/, or a folder of classes or of \
                 tar shards",
                path.display()
            );
        }
        Ok(DatasetConfig::read(path)?.open(image_size)?)
    };
    let datasets = paths.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let mut names = HashSet::new();
    if let Some(twice) = datasets.iter().find(|set| !names.insert(&set.name)) {
        bail!(
            "two datasets are named `{}`: rename one in its file",
            twice.name
        );
    }
    Ok(datasets)
}

fn open_cache(arguments: &CacheArguments, encoder: &Encoder) -> Option<FeatureCache> {
    if arguments.no_cache {
        return None;
    }
    let folder = arguments.cache.clone().or_else(|| {
        let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let caches = home("XDG_CACHE_HOME").or_else(|| Some(home("HOME")?.join(".cache")))?;
        Some(caches.join("couplet"))
    });
    folder.map(|folder| FeatureCache::new(&folder, encoder))
}

fn options(cache: Option<&FeatureCache>) -> EvalOptions<'_> {
    EvalOptions {
        max_image_pixels: DEFAULT_MAX_IMAGE_PIXELS,
        cache,
    }
}

fn tell_skipped(skipped: &[Skipped]) {
    for sample in skipped.iter().take(SHOWN) {
        eprintln!("skipped {sample}");
    }
    if skipped.len() > SHOWN {
        eprintln!("… and {} more", skipped.len() - SHOWN);
    }
}

/// How each class did, as a table and as a picture.
fn write_details(
    folder: Option<&Path>,
    name: &str,
    confusion: &ConfusionMatrix,
) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        return Ok(());
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot be written", folder.display()))?;
    for (end, text) in [
        ("classes.csv", confusion.to_csv()),
        ("confusion.svg", confusion.to_svg()),
    ] {
        let path = folder.join(format!("{name}-{end}"));
        fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

fn write_json(file: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    fs::write(file, text + "\n").with_context(|| format!("{}: cannot be written", file.display()))
}
