//! The tables of a run's config.

use std::path::{Path, PathBuf};

use couplet_data::source::SourceConfig;
use couplet_data::{Augment, DEFAULT_MAX_IMAGE_PIXELS};
use couplet_loss::Loss;
use couplet_model::{
    Activation, Freeze, FreezeConfig, ImageTowerSpec, ModelSpec, Precision, PreprocessSpec,
    TextTowerSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::classify::ClassifyConfig;
use super::evals::{EvalConfig, RunEvalConfig, one_epoch};
use super::guard::GuardConfig;
use super::micro::MicroBatch;
use super::output::{CheckpointConfig, LogConfig};
use super::path_keys::make_absolute;
use super::ranks::RanksConfig;
use crate::adapt::AdaptConfig;
use crate::device::DeviceSetting;
use crate::ema::EmaConfig;
use crate::numbers::shorten;
use crate::optimizer::OptimizerConfig;
use crate::schedule::ScheduleConfig;

/// A training run, complete: what `config.toml` in a run's folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Names the run: its folder is `runs/NAME` unless `--run-dir` says otherwise. No slashes.
    #[schemars(extend("examples" = ["clip-vit-b-32"], "x-may-change" = true))]
    pub name: String,
    /// Seeds every random draw: initial weights, order of the samples, augmentation, patch
    /// dropout.
    #[serde(default)]
    pub seed: u64,
    /// Device to train on. `auto` takes the fastest one that this build and this machine have.
    #[serde(default = "default_device")]
    #[schemars(extend("x-may-change" = true))]
    pub device: DeviceSetting,
    /// Precision of matrix products and convolutions. Parameters, norms, softmax and loss stay
    /// fp32.
    #[serde(default)]
    pub precision: Precision,
    /// The model: a preset, a full description, or a preset with some of its keys replaced.
    pub model: ModelConfig,
    /// The training data and how it is read.
    pub data: DataConfig,
    /// Fine-tunes the image tower as a classifier instead of matching pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classify: Option<ClassifyConfig>,
    /// The batch, and how it is divided to save memory.
    pub batch: BatchConfig,
    /// The loss over the features of the whole batch.
    #[serde(default)]
    pub loss: Loss,
    /// The optimizer and its settings.
    pub optimizer: OptimizerConfig,
    /// Length of the training and the learning rate over its steps.
    pub schedule: ScheduleConfig,
    /// Parts of the model that are not trained.
    #[serde(default)]
    pub freeze: FreezeConfig,
    /// Trains low-rank updates of the model in place of its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapt: Option<AdaptConfig>,
    /// Keeps an exponential moving average of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// Evaluations during training, one `[[eval]]` table each.
    #[serde(default)]
    #[schemars(extend("x-may-change" = true))]
    pub eval: Vec<EvalConfig>,
    /// Ends the run, or brings its weights back, when it loses old abilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardConfig>,
    /// When checkpoints are written and which are kept.
    #[serde(default)]
    #[schemars(extend("x-may-change" = true))]
    pub checkpoint: CheckpointConfig,
    /// What is logged and how often.
    #[serde(default)]
    #[schemars(extend("x-may-change" = true))]
    pub log: LogConfig,
    /// How the ranks of a run work together.
    #[serde(default)]
    #[schemars(extend("x-may-change" = true))]
    pub ranks: RanksConfig,
}

pub(super) fn default_device() -> DeviceSetting {
    DeviceSetting::Auto
}

/// `[model]`: a preset, a full description, or a preset with some of its keys replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name of an architecture; `couplet model list` prints all. Its keys are defaults for the
    /// other keys of `[model]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["ViT-B-32"]))]
    pub preset: Option<String>,
    /// Pretrained weights to start from: a run, an open_clip or Hugging Face folder, a file
    /// of weights, or a name such as `ViT-B-32@openai` or `hf:org/name`. They bring their architecture: without `preset`, its keys are defaults for the
    /// other keys of `[model]`. Without weights, they are initialized at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Width of the joint image-text space.
    #[schemars(range(min = 1))]
    pub embed_dim: usize,
    /// Activation of every MLP in both towers, unless a tower has its own.
    #[serde(default)]
    pub activation: Activation,
    /// Initial `logit_scale`, as a logarithm. ln(1 / 0.07) by default, as in CLIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_scale: Option<f32>,
    /// Initial `logit_bias`; without it the model has none. SigLIP starts from -10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f32>,
    /// Path of a `tokenizer.json`. By default the tokenizer of `weights`, else CLIP's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// How images are resized and normalized for evaluation. By default as `weights` says, else
    /// as OpenAI's models do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessSpec>,
    /// The image tower.
    pub image: ImageTowerSpec,
    /// The text tower.
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

/// `[data]`: the training data and how it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The training data: a source with its own keys, and what an epoch takes of it.
    pub train: TrainDataConfig,
    /// Held-out pairs, which are not trained on, for `kind = "held-out"` evaluations. Without
    /// such an `[[eval]]` table they are evaluated after every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-may-change" = true))]
    pub val: Option<ValDataConfig>,
    /// Largest share of an epoch's samples that may be unusable before the run stops.
    #[serde(default = "default_max_skipped")]
    #[schemars(range(min = 0.0, max = 1.0), extend("x-may-change" = true))]
    pub max_skipped: f64,
    /// Skips images with more pixels than this, before they are decoded, and images whose decoding
    /// would hold more than 6 bytes for each of these pixels.
    #[serde(default = "default_max_image_pixels")]
    #[schemars(range(min = 1))]
    pub max_image_pixels: u64,
    /// Number of decoding threads; 0 for one per core. The order of samples does not depend on
    /// it.
    #[serde(default)]
    #[schemars(range(max = 1024), extend("x-may-change" = true))]
    pub threads: usize,
}

pub(crate) fn default_max_skipped() -> f64 {
    0.01
}

pub(super) fn default_max_image_pixels() -> u64 {
    DEFAULT_MAX_IMAGE_PIXELS
}

/// `[data.train]`: a source with its own keys, and what an epoch takes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrainDataConfig {
    #[serde(flatten)]
    pub source: SourceConfig,
    /// Number of samples in an epoch. By default the whole dataset; required for a stream of
    /// unknown length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub samples_per_epoch: Option<usize>,
    /// Draws samples with replacement; of a stream, shards.
    #[serde(default)]
    pub resample: bool,
    /// Decodes a JPEG at 1/2, 1/4 or 1/8 of its size where that is still as large as the crop.
    /// Faster for large images, with slightly different pixels.
    #[serde(default)]
    pub dct_scaling: bool,
    /// Augmentation of the training images. Without any, images are preprocessed as in
    /// evaluation.
    #[serde(default)]
    pub augment: Augment,
}

/// `[data.val]`: a source of held-out pairs, with its own keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValDataConfig {
    #[serde(flatten)]
    pub source: SourceConfig,
    /// Number of pairs to evaluate, 10,000 by default; retrieval ranks each among all of them.
    /// Required for a stream of unknown length, and at most its length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub max_samples: Option<usize>,
}

/// `[batch]`: the batch, and how it is divided to save memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Number of pairs in one contrastive batch, at least 2 (1 with `[classify]`).
    #[schemars(range(min = 1))]
    pub global: usize,
    /// Number of pairs in one forward and backward pass; must divide `global`. By default the
    /// whole batch. Smaller micro-batches need less memory and give the same gradients for one
    /// more forward pass. `"auto"` takes the fewest passes that fit into the device's memory, tried
    /// out before the first step; not for a ResNet, whose batch norms see one micro-batch at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-may-change" = true))]
    pub micro: Option<MicroBatch>,
    /// Number of equal parts of a batch, each with its own order of samples; must divide `global`, and
    /// the number of ranks must divide it. By default the largest power of two up to 64 that divides
    /// `global` and that a stream has shards for. A resumed run keeps the number that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub parts: Option<usize>,
    /// Recomputes each transformer block in the backward pass instead of keeping its
    /// activations (gradient checkpointing). Not available for a ResNet.
    #[serde(default)]
    #[schemars(extend("x-may-change" = true))]
    pub recompute_blocks: bool,
    /// Number of rows of the logit matrix in memory at once. By default as few as keep it small
    /// compared with a tower's activations; on a GPU, as many as take 64 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("x-may-change" = true))]
    pub logit_rows: Option<usize>,
}

impl RunConfig {
    /// The folder of a run unless another is given.
    pub fn folder_of(name: &str) -> PathBuf {
        Path::new("runs").join(name)
    }

    /// The config as a TOML file, complete: relative paths, which start from the working directory, become
    /// absolute.
    ///
    /// # Panics
    /// Never: every field has a TOML form, which a test reads back.
    pub fn to_toml(&self) -> String {
        let mut table = Table::try_from(self).expect("a run config has a TOML form");
        shorten(&mut table);
        make_absolute(&mut table, &std::env::current_dir().unwrap_or_default());
        toml::to_string(&table).expect("a TOML table prints")
    }

    /// Whether batch norms learn, each from one micro-batch at a time.
    pub(crate) fn trains_norms(&self) -> bool {
        let is_frozen = self.freeze.image == Freeze::All || self.adapt.is_some();
        self.model.image.has_batch_norm() && !is_frozen
    }

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
