//! `couplet model mix`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use couplet_eval::Encoder;
use serde_json::json;

use super::along::{self, Along};
use super::{open_models, write};
use crate::commands::config_arguments::DataArguments;
use crate::commands::model_arguments::ModelOptions;
use crate::commands::output_file::check_folder;
use crate::exit_code;
use crate::json_output::JsonArguments;

#[derive(Debug, Args)]
pub(crate) struct MixArguments {
    /// Models to mix: runs' folders, checkpoints, open_clip or Hugging Face folders, weights files, or names such as
    /// ViT-B-32@openai. With --along the model that was fine-tuned from, then the fine-tuned one
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Weight of each model, separated by commas; their sum is 1
    #[arg(
        long,
        value_name = "WEIGHTS",
        value_delimiter = ',',
        allow_negative_numbers = true,
        required_unless_present = "along",
        conflicts_with = "along"
    )]
    weights: Vec<f64>,
    /// Weights of the second model to evaluate, separated by commas: the first has the rest. `0,0.1,...,1` goes on in
    /// steps of 0.1
    #[arg(long, value_name = "WEIGHTS", requires = "dataset")]
    along: Option<Along>,
    /// Dataset to evaluate each mix on: a built-in one (see `couplet eval datasets`), a dataset file or a dataset's
    /// folder. Repeat for several, those of old abilities first
    #[arg(long, requires = "along")]
    dataset: Vec<PathBuf>,
    /// Folder to create for the mix, in open_clip's layout; with --along for the mix that is best in the mean over
    /// datasets
    #[arg(long, value_name = "DIR", required_unless_present = "along")]
    out: Option<PathBuf>,
    /// With --along, write a picture of all values to this SVG file
    #[arg(long, value_name = "FILE", requires = "along")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    options: ModelOptions,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    json: JsonArguments,
}

/// Sums of weights further from 1 than this are mistakes.
const TOLERANCE: f64 = 1e-3;

pub(crate) fn run(arguments: &MixArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let models = &arguments.models;
    arguments.out.as_deref().map_or(Ok(()), check_folder)?;
    if let Some(along) = &arguments.along {
        if models.len() != 2 {
            bail!(
                "--along goes from one model to another: give two, not {}",
                models.len()
            );
        }
        let models = open_models(models, &arguments.options)?;
        let line = along::Line {
            models: [&models[0], &models[1]],
            datasets: &arguments.dataset,
            data: &arguments.data,
            plot: arguments.plot.as_deref(),
            out: arguments.out.as_deref(),
        };
        let values = line.run(&along.0)?;
        arguments.json.write(&values)?;
        return Ok(exit_code::DONE);
    }
    let weights = &arguments.weights;
    if weights.len() != models.len() {
        bail!(
            "--weights: {} weights for {} models",
            weights.len(),
            models.len()
        );
    }
    let sum: f64 = weights.iter().sum();
    if sum.is_nan() || (sum - 1.0).abs() > TOLERANCE {
        bail!("--weights: their sum is {sum}, not 1");
    }
    let out = arguments.out.as_ref().context("--out is missing")?;
    let opened = open_models(models, &arguments.options)?;
    let shares = weights.iter().map(|weight| weight / sum);
    let others: Vec<(&Encoder, f64)> = opened.iter().zip(shares).skip(1).collect();
    let mixed = opened[0].mixed(weights[0] / sum, &others)?;
    let terms =
        (models.iter().zip(weights)).map(|(model, weight)| format!("{weight} {}", model.display()));
    write(&mixed, out, &terms.collect::<Vec<_>>().join(" + "))?;
    arguments.json.write(&json!({ "weights": weights }))?;
    Ok(exit_code::DONE)
}
