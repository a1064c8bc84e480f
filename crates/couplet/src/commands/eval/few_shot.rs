//! `couplet eval few-shot`.

use anyhow::bail;
use clap::{Args, ValueEnum};
use couplet_eval::metric::{MEAN_PER_CLASS, TOP1};
use couplet_eval::{
    FewShot, FewShotClassifier, FewShotSettings, Metrics, ProbeData, Report, few_shot,
};
use serde_json::Value;

use super::datasets::to_json;
use super::probe_inputs::ProbeInputs;
use crate::commands::numbers::{at_least_one, positive};
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::progress::print_reports;

/// Classes that a warning lists.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct FewShotArguments {
    #[command(flatten)]
    inputs: ProbeInputs,
    /// Numbers of training images of each class, separated by commas; a class with fewer images has
    /// them all in
    #[arg(
        short = 'k',
        long = "shots",
        value_name = "K",
        value_delimiter = ',',
        default_values_t = [1_usize, 2, 4, 8, 16],
        value_parser = at_least_one
    )]
    shots: Vec<usize>,
    /// Number of draws of the images, with the seeds 0 to N - 1 of NumPy's `default_rng`; means and
    /// standard deviations are over them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// Classifier to fit: `ridge` is least squares to targets of -1 and 1 over standardized features,
    /// as big_vision's; `logistic` is logistic regression
    #[arg(long, value_name = "NAME", value_enum, default_value_t = ClassifierName::Ridge)]
    classifier: ClassifierName,
    /// L2 regularization of `ridge` [default: 1024, as big_vision's]
    #[arg(long, value_name = "L2", value_parser = positive)]
    l2: Option<f64>,
    /// Inverse regularization strength of `logistic`, scikit-learn's C [default: 0.316, as CLIP's]
    #[arg(short = 'C', long = "c", value_name = "C", value_parser = positive)]
    c: Option<f64>,
    /// L2-normalize the features first, as CLIP_benchmark does
    #[arg(long)]
    normalize: bool,
    #[command(flatten)]
    pub(super) json: JsonArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClassifierName {
    Ridge,
    Logistic,
}

const L2: f64 = 1024.0;
const C: f64 = 0.316;

pub(super) fn run(arguments: &FewShotArguments) -> anyhow::Result<u8> {
    let classifier = match (arguments.classifier, arguments.l2, arguments.c) {
        (ClassifierName::Ridge, _, Some(_)) => {
            bail!("-C is for --classifier logistic; ridge takes --l2")
        }
        (ClassifierName::Logistic, Some(_), _) => {
            bail!("--l2 is for --classifier ridge; logistic takes -C")
        }
        (ClassifierName::Ridge, l2, None) => FewShotClassifier::Ridge {
            l2: l2.unwrap_or(L2),
        },
        (ClassifierName::Logistic, None, c) => FewShotClassifier::Logistic { c: c.unwrap_or(C) },
    };
    let settings = FewShotSettings {
        shots: arguments.shots.clone(),
        seeds: arguments.seeds,
        classifier,
        is_normalized: arguments.normalize,
    };
    let mut all: Vec<FewShot> = Vec::new();
    let subjects = arguments.inputs.each(|data| {
        warn_of_few_images(data, &settings.shots);
        all.extend(few_shot(data, &settings, |_, _| {})?);
        Ok(())
    })?;
    let reports: Vec<Report> = all.iter().map(|one| one.report.clone()).collect();
    print_reports(&reports);
    let mut values = if let Some((encoder, datasets)) = &subjects {
        to_json(&reports, encoder, datasets)?
    } else {
        let values = reports.iter().map(serde_json::to_value);
        values.collect::<serde_json::Result<Vec<Value>>>()?
    };
    for (value, one) in values.iter_mut().zip(&all) {
        complete(value, one, &settings)?;
    }
    arguments.json.write(&values)?;
    Ok(exit_code::DONE)
}

/// Adds to a report how it was made, and the result of each draw.
fn complete(value: &mut Value, one: &FewShot, settings: &FewShotSettings) -> anyhow::Result<()> {
    let (name, strength) = match settings.classifier {
        FewShotClassifier::Ridge { l2 } => ("ridge", l2),
        FewShotClassifier::Logistic { c } => ("logistic", c),
    };
    value["classifier"] = name.into();
    value["strength"] = strength.into();
    value["normalized"] = settings.is_normalized.into();
    let draws = one.draws.iter().map(|draw| {
        let metrics = Metrics(vec![
            TOP1.of(draw.top1),
            MEAN_PER_CLASS.of(draw.mean_per_class),
        ]);
        let mut value = serde_json::to_value(metrics)?;
        value["seed"] = draw.seed.into();
        value["train_images"] = draw.rows.len().into();
        Ok(value)
    });
    let draws: serde_json::Result<Vec<Value>> = draws.collect();
    value["seeds"] = draws?.into();
    Ok(())
}

/// Warns of classes with fewer images than shots, which are fitted to all that there are.
fn warn_of_few_images(data: &ProbeData, shots: &[usize]) {
    for shots in shots {
        let below = data.classes_below(*shots);
        if below.is_empty() {
            continue;
        }
        let shown = below.iter().take(SHOWN);
        let shown: Vec<String> = shown
            .map(|(name, images)| format!("{name} ({images})"))
            .collect();
        let more = if below.len() > SHOWN { ", …" } else { "" };
        printing::warn(&format!(
            "{}: -k {shots}: {} of {} classes have fewer training images, and all of theirs are used: {}{more}",
            data.name,
            below.len(),
            data.class_names.len(),
            shown.join(", ")
        ));
    }
}
