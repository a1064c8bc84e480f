//! The model that a command opens, and the device that it runs on.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use couplet_data::printable_path;
use couplet_eval::{Encoder, OpenOptions};
use couplet_model::Precision;
use couplet_train::DeviceSetting;

use super::precision_name::PrecisionName;
use crate::printing;

/// Keys that `--set` accepts where there is a model but no config.
const PREPROCESS: &str = "preprocess.";

#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// Model to open: a run's folder, a checkpoint, an open_clip or Hugging Face folder, a
    /// weights file (.pt, .bin, .safetensors), or a name such as ViT-B-32@openai or hf:org/name
    #[arg(long = "model", value_name = "MODEL")]
    pub path: PathBuf,
    #[command(flatten)]
    pub options: ModelOptions,
}

/// An optional model: not needed if features are given.
#[derive(Debug, Args)]
pub(crate) struct OptionalModel {
    /// Model to open: a run's folder, a checkpoint, an open_clip or Hugging Face folder, a
    /// weights file (.pt, .bin, .safetensors), or a name such as ViT-B-32@openai or hf:org/name
    #[arg(long, required_unless_present = "features")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub options: ModelOptions,
}

/// Options for opening a model.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelOptions {
    /// Architecture of weights that come without one: a preset or an open_clip config file
    #[arg(long, value_name = "NAME|FILE")]
    pub arch: Option<String>,
    /// Override a value of the model's preprocessing: mean, std, interpolation, resize_mode,
    /// resize_size, crop_rounding or fill_color. Repeat to override several
    #[arg(long, value_name = "preprocess.KEY=VALUE")]
    pub set: Vec<String>,
    /// Device to run on: auto, cpu, cuda:N, rocm:N, metal, vulkan or wgpu
    #[arg(long, default_value = "auto")]
    pub device: DeviceSetting,
    /// Precision of matrix products and convolutions: fp32, bf16 or fp16 [default: fp32]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub precision: Option<PrecisionName>,
}

impl ModelArguments {
    /// Opens the model.
    pub fn open(&self) -> anyhow::Result<Encoder> {
        self.options.open(&self.path)
    }
}

impl ModelArguments {
    /// Opens the model, and prints which checkpoint of a run that is.
    pub fn open_aloud(&self) -> anyhow::Result<Encoder> {
        self.options.open_aloud(&self.path)
    }
}

impl OptionalModel {
    /// Opens the model, which must have been given.
    pub fn open(&self) -> anyhow::Result<Encoder> {
        let model = self.model.as_ref().context("--model is missing")?;
        self.options.open(model)
    }

    /// Opens the device alone.
    pub fn open_device(&self) -> anyhow::Result<burn::tensor::Device> {
        if self.options.precision.is_some() {
            bail!(
                "--precision: features that are given have the precision of the model that made them"
            );
        }
        self.options
            .device
            .open()
            .context("--device cannot be used")
    }
}

impl ModelOptions {
    /// Opens the model at `path` with these options.
    pub fn open(&self, path: &Path) -> anyhow::Result<Encoder> {
        let device = self.device.open().context("--device cannot be used")?;
        let precision = self.precision.map_or(Precision::F32, Precision::from);
        if !precision.is_supported(&device) {
            let device = self.device.resolved();
            bail!("--precision: {device} does not support {precision}");
        }
        if let Some(why) = self.device.slow_because(precision) {
            printing::note(why);
        }
        let preprocess = self.set.iter().map(|entry| preprocess_value(entry));
        let options = OpenOptions {
            arch: self.arch.clone(),
            preprocess: preprocess.collect::<anyhow::Result<_>>()?,
            precision,
        };
        Ok(Encoder::open_with(path, &options, &device)?)
    }

    /// Opens the model of a run, and prints which of its checkpoints that is.
    pub fn open_aloud(&self, path: &Path) -> anyhow::Result<Encoder> {
        let encoder = self.open(path)?;
        if let (Some(weights), Some(chosen)) = (encoder.weights(), encoder.checkpoint()) {
            let weights = printable_path(weights);
            printing::note(&format!("model {weights} ({chosen})"));
        }
        Ok(encoder)
    }
}

/// The key and the value of `preprocess.KEY=VALUE`.
fn preprocess_value(entry: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = entry
        .strip_prefix(PREPROCESS)
        .and_then(|entry| entry.split_once('='))
        .ok_or_else(|| {
            anyhow!(
                "--set {entry}: expected preprocess.KEY=VALUE, such as \
                 preprocess.resize_mode=squash"
            )
        })?;
    Ok((key.to_string(), value.to_string()))
}
