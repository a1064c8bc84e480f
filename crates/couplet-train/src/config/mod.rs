//! A run's config: one TOML file, every table owned by the crate that builds it.

mod changes;
mod check;
mod classify;
mod collect;
mod data;
mod edit;
mod problem;

use std::path::{Path, PathBuf};

use couplet_data::source::SourceConfig;
use couplet_data::{Augment, DEFAULT_MAX_IMAGE_PIXELS};
use couplet_loss::Loss;
use couplet_model::{
    Activation, FreezeConfig, ImageTowerSpec, ModelSpec, Precision, PreprocessSpec, TextTowerSpec,
};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::device::DeviceSetting;
use crate::duration::{Duration, Unit};
use crate::ema::EmaConfig;
use crate::optimizer::OptimizerConfig;
use crate::schedule::ScheduleConfig;

pub(crate) use changes::changes;
pub use check::ResolvedRun;
pub(crate) use check::{EvalTarget, HELD_OUT, LoggedMetric, ResolvedEval};
pub(crate) use classify::Classes;
pub use classify::{ClassifyConfig, HeadStart};
pub use data::ResolvedData;
pub use problem::{ConfigError, ConfigIssue};
use problem::{UNKNOWN_KEY, problems_of};

/// A training run, complete: what `config.toml` of a run's folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    pub name: String,
    #[serde(default)]
    pub seed: u64,
    #[serde(default = "default_device")]
    pub device: DeviceSetting,
    #[serde(default)]
    pub precision: Precision,
    pub model: ModelConfig,
    pub data: DataConfig,
    /// Fine-tunes the image tower to tell classes instead of matching pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classify: Option<ClassifyConfig>,
    pub batch: BatchConfig,
    #[serde(default)]
    pub loss: Loss,
    pub optimizer: OptimizerConfig,
    pub schedule: ScheduleConfig,
    #[serde(default)]
    pub freeze: FreezeConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    #[serde(default)]
    pub eval: Vec<EvalConfig>,
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    #[serde(default)]
    pub log: LogConfig,
}

fn default_device() -> DeviceSetting {
    DeviceSetting::Auto
}

/// `[model]`: a preset, a spec in full, or a preset with some of its keys replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A model that training starts from: a run, an open_clip or Hugging Face folder, or
    /// a file of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    pub embed_dim: usize,
    #[serde(default)]
    pub activation: Activation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_scale: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f32>,
    /// A `tokenizer.json`; by default that of `weights`, else CLIP's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// By default that of `weights`, else OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessSpec>,
    pub image: ImageTowerSpec,
    pub text: TextTowerSpec,
}

impl ModelConfig {
    /// The model's spec.
    pub fn spec(&self) -> ModelSpec {
        ModelSpec {
            embed_dim: self.embed_dim,
            activation: self.activation,
            init_logit_scale: self
                .init_logit_scale
                .unwrap_or_else(couplet_model::clip_init_logit_scale),
            init_logit_bias: self.init_logit_bias,
            image: self.image.clone(),
            text: self.text.clone(),
        }
    }
}

/// `[data]`: the training set and how it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    pub train: TrainDataConfig,
    /// Pairs that are not trained on, for `kind = "held-out"` evaluations: without an entry of
    /// its own there is one after every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<ValDataConfig>,
    /// The largest share of an epoch's samples that may be unusable before the run stops.
    #[serde(default = "default_max_skipped")]
    pub max_skipped: f64,
    /// Images with more pixels are skipped before they are decoded.
    #[serde(default = "default_max_image_pixels")]
    pub max_image_pixels: u64,
    /// Decoding threads; 0 for one per core. The order of samples does not depend on it.
    #[serde(default)]
    pub threads: usize,
}

fn default_max_skipped() -> f64 {
    0.01
}

fn default_max_image_pixels() -> u64 {
    DEFAULT_MAX_IMAGE_PIXELS
}

/// `[data.train]`: a source, and what an epoch takes of it. The source's own keys stand
/// in the same table; its variants refuse unknown ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainDataConfig {
    #[serde(flatten)]
    pub source: SourceConfig,
    /// Samples an epoch takes; by default the whole set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_per_epoch: Option<usize>,
    /// Draw with replacement; of a stream, shards.
    #[serde(default)]
    pub resample: bool,
    /// Decode a JPEG at a half, a quarter or an eighth of its size where that is still as
    /// large as what is cut out of it. Faster for large ones; it changes pixels.
    #[serde(default)]
    pub dct_scaling: bool,
    #[serde(default)]
    pub augment: Augment,
}

/// `[data.val]`: a source. Its own keys stand in the same table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValDataConfig {
    #[serde(flatten)]
    pub source: SourceConfig,
    /// Pairs that are read of it, 10,000 by default; in retrieval each is looked for among so
    /// many. Of a stream that nobody has counted it must be given, and be no more than all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_samples: Option<usize>,
}

/// `[batch]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Pairs in one contrastive batch.
    pub global: usize,
    /// Pairs in one forward and backward pass, on which the memory depends; by default
    /// the whole batch. Smaller ones give the same gradients for one more forward pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro: Option<usize>,
    /// Keep only what goes into each transformer block, and compute the rest again on the
    /// way back: gradient checkpointing, for towers too deep for even one pair.
    #[serde(default)]
    pub recompute_blocks: bool,
    /// Rows of the matrix of logits that exist at once; by default as few as keep it
    /// small beside a tower's activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_rows: Option<usize>,
}

/// One entry of `[[eval]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EvalConfig {
    /// Classes by their names.
    ZeroShot(DatasetEvalConfig),
    /// Captions of images and images of captions.
    Retrieval(DatasetEvalConfig),
    /// The loss over the pairs of `[data.val]`, and retrieval among them.
    HeldOut(RunEvalConfig),
    /// The classes of `[classify]`'s dataset, by the head that the run trains.
    Classification(RunEvalConfig),
}

/// `kind = "zero-shot"` and `kind = "retrieval"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetEvalConfig {
    /// A file of `datasets/`, or a folder that a dataset lies in.
    pub dataset: PathBuf,
    #[serde(default = "one_epoch")]
    pub every: Duration,
    /// By default the average, where `[ema]` makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<EvalWeights>,
}

/// `kind = "held-out"` and `kind = "classification"`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunEvalConfig {
    #[serde(default = "one_epoch")]
    pub every: Duration,
    /// By default the average, where `[ema]` makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<EvalWeights>,
}

impl EvalConfig {
    pub(crate) fn every(&self) -> Duration {
        match self {
            Self::ZeroShot(table) | Self::Retrieval(table) => table.every,
            Self::HeldOut(table) | Self::Classification(table) => table.every,
        }
    }

    pub(crate) fn weights(&self) -> Option<EvalWeights> {
        match self {
            Self::ZeroShot(table) | Self::Retrieval(table) => table.weights,
            Self::HeldOut(table) | Self::Classification(table) => table.weights,
        }
    }
}

impl RunConfig {
    /// The entries of `[[eval]]`, and those that `[classify]` and `[data.val]` bring where
    /// there is none of their kind.
    pub(crate) fn evals(&self) -> Vec<EvalConfig> {
        let mut evals = self.eval.clone();
        let table = RunEvalConfig {
            every: one_epoch(),
            weights: None,
        };
        let lacks = |is_own: fn(&EvalConfig) -> bool| !self.eval.iter().any(is_own);
        let is_classes: fn(&EvalConfig) -> bool =
            |eval| matches!(eval, EvalConfig::Classification(_));
        if self.classify.is_some() && lacks(is_classes) {
            evals.push(EvalConfig::Classification(table.clone()));
        }
        if self.data.val.is_some() && lacks(|eval| matches!(eval, EvalConfig::HeldOut(_))) {
            evals.push(EvalConfig::HeldOut(table));
        }
        evals
    }
}

/// Which weights an evaluation judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvalWeights {
    /// The average that `[ema]` makes.
    Ema,
    /// Those that the optimiser steps.
    Raw,
}

/// `[checkpoint]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// One length or several, such as `["1 epoch", "10 minutes"]`.
    #[serde(default = "every_epoch")]
    pub every: Lengths,
    /// Latest checkpoints to keep, beside the best one.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// The metric whose best value makes a checkpoint the best, such as `eval/shapes/top1`:
    /// the lowest of losses and ranks, the highest of all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<String>,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: every_epoch(),
            keep: default_keep(),
            best: None,
        }
    }
}

/// One length or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrSeveral", into = "OneOrSeveral")]
pub struct Lengths(pub Vec<Duration>);

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a length such as \"1 epoch\", or a list of them"
)]
enum OneOrSeveral {
    One(Duration),
    Several(Vec<Duration>),
}

impl From<OneOrSeveral> for Lengths {
    fn from(given: OneOrSeveral) -> Self {
        match given {
            OneOrSeveral::One(one) => Self(vec![one]),
            OneOrSeveral::Several(several) => Self(several),
        }
    }
}

impl From<Lengths> for OneOrSeveral {
    fn from(lengths: Lengths) -> Self {
        match lengths.0[..] {
            [one] => Self::One(one),
            _ => Self::Several(lengths.0),
        }
    }
}

fn one_epoch() -> Duration {
    Duration {
        amount: 1.0,
        unit: Unit::Epochs,
    }
}

fn every_epoch() -> Lengths {
    Lengths(vec![one_epoch()])
}

fn default_keep() -> usize {
    3
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// How often a line goes to `metrics.jsonl`.
    #[serde(default = "ten_steps")]
    pub every: Duration,
    /// Whether the same numbers go to event files in the run's `tensorboard/`.
    #[serde(default = "yes")]
    pub tensorboard: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            every: ten_steps(),
            tensorboard: yes(),
        }
    }
}

fn yes() -> bool {
    true
}

fn ten_steps() -> Duration {
    Duration {
        amount: 10.0,
        unit: Unit::Steps,
    }
}

fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    text.parse().map_err(|source| ConfigError::Syntax {
        path: path.to_path_buf(),
        source: Box::new(source),
    })
}

/// Whether the config's device must be available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceCheck {
    /// The device must be available on this machine.
    Local,
    /// The run is for another machine: its device is not checked.
    Skip,
}

impl RunConfig {
    /// Reads a config, applies `--set key=value` pairs and checks everything that can be
    /// checked before work starts.
    ///
    /// # Errors
    /// With every problem at once, each with its key.
    pub fn read(path: &Path, set: &[String]) -> Result<ResolvedRun, ConfigError> {
        Self::read_for(path, set, DeviceCheck::Local)
    }

    /// [`Self::read`], for a run on `machine`.
    ///
    /// # Errors
    /// As there.
    pub fn read_for(
        path: &Path,
        set: &[String],
        machine: DeviceCheck,
    ) -> Result<ResolvedRun, ConfigError> {
        let mut table = read_table(path)?;
        let mut problems = edit::set_keys(&mut table, set);
        classify::default_source(&mut table);
        problems.extend(edit::merge_preset(&mut table));
        let collected = collect::collect::<Self>(table);
        problems.extend(collected.problems);
        let checked = collected
            .value
            .map(|config| check::check(config, machine, &mut problems));
        match checked {
            Some(Some(checked)) if problems.is_empty() => Ok(checked),
            _ => Err(problems_of(path, problems)),
        }
    }

    /// The config as a TOML file, complete.
    ///
    /// # Panics
    /// Never: every field has a TOML form, which a test reads back.
    pub fn to_toml(&self) -> String {
        let table = Table::try_from(self).expect("a run config has a TOML form");
        toml::to_string(&table).expect("a TOML table prints")
    }
}

#[cfg(test)]
mod tests;
