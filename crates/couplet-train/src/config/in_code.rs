//! Configs made in code: what must be said is an argument, the rest has the defaults of a file.

use couplet_data::Augment;
use couplet_data::source::SourceConfig;
use couplet_loss::Loss;
use couplet_model::{FreezeConfig, ModelSpec, Precision, presets};

use super::evals::{DatasetEvalConfig, EvalConfig, RunEvalConfig, one_epoch};
use super::output::{CheckpointConfig, LogConfig};
use super::ranks::RanksConfig;
use super::tables::{
    BatchConfig, DataConfig, ModelConfig, RunConfig, TrainDataConfig, ValDataConfig,
    default_device, default_max_image_pixels, default_max_skipped,
};
use crate::nearest::nearest;
use crate::optimizer::OptimizerConfig;
use crate::schedule::ScheduleConfig;

/// A name of no preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown preset `{name}`{}", meant.map_or(String::new(), |right| format!("; did you mean `{right}`?")))]
pub struct UnknownPreset {
    name: String,
    meant: Option<&'static str>,
}

impl RunConfig {
    /// A run with the defaults of a config file: f32 on the fastest device, the softmax loss, a checkpoint after
    /// every epoch, no evaluation. All fields are public; change what should differ.
    /// - name: names the run; its folder is `runs/NAME`.
    /// - batch: pairs in one contrastive batch, at least 2.
    pub fn new(
        name: impl Into<String>,
        model: ModelConfig,
        train: SourceConfig,
        batch: usize,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
    ) -> Self {
        Self {
            name: name.into(),
            seed: 0,
            device: default_device(),
            precision: Precision::default(),
            model,
            data: DataConfig::new(train),
            classify: None,
            batch: BatchConfig::new(batch),
            loss: Loss::default(),
            optimizer,
            schedule,
            freeze: FreezeConfig::default(),
            adapt: None,
            ema: None,
            eval: Vec::new(),
            guard: None,
            checkpoint: CheckpointConfig::default(),
            log: LogConfig::default(),
            ranks: RanksConfig::default(),
        }
    }
}

impl ModelConfig {
    /// The preset of that name; `couplet_model::presets::names` lists all.
    ///
    /// # Errors
    /// If there is none; the error names the nearest.
    pub fn preset(name: &str) -> Result<Self, UnknownPreset> {
        let spec = presets::find(name).ok_or_else(|| UnknownPreset {
            name: name.to_string(),
            meant: nearest(name, presets::names()),
        })?;
        Ok(Self {
            preset: Some(name.to_string()),
            ..Self::from_spec(spec)
        })
    }

    /// A model with random weights, CLIP's tokenizer and the preprocessing of OpenAI's models.
    pub fn from_spec(spec: ModelSpec) -> Self {
        Self {
            preset: None,
            weights: None,
            embed_dim: spec.embed_dim,
            activation: spec.activation,
            init_logit_scale: Some(spec.init_logit_scale),
            init_logit_bias: spec.init_logit_bias,
            tokenizer: None,
            preprocess: None,
            image: spec.image,
            text: spec.text,
        }
    }
}

impl DataConfig {
    /// Training data without augmentation and held-out pairs.
    pub fn new(train: SourceConfig) -> Self {
        Self {
            train: TrainDataConfig::new(train),
            val: None,
            max_skipped: default_max_skipped(),
            max_image_pixels: default_max_image_pixels(),
            threads: 0,
        }
    }
}

impl TrainDataConfig {
    /// Every sample once in an epoch, without augmentation.
    pub fn new(source: SourceConfig) -> Self {
        Self {
            source,
            samples_per_epoch: None,
            resample: false,
            dct_scaling: false,
            augment: Augment::default(),
        }
    }
}

impl ValDataConfig {
    /// At most 10,000 pairs.
    pub fn new(source: SourceConfig) -> Self {
        Self {
            source,
            max_samples: None,
        }
    }
}

impl BatchConfig {
    /// One micro-batch.
    /// - global: pairs in one contrastive batch.
    pub fn new(global: usize) -> Self {
        Self {
            global,
            micro: None,
            parts: None,
            recompute_blocks: false,
            logit_rows: None,
        }
    }
}

impl EvalConfig {
    /// Zero-shot classification after every epoch.
    /// - dataset: as in [`DatasetEvalConfig::dataset`].
    pub fn zero_shot(dataset: impl Into<std::path::PathBuf>) -> Self {
        Self::ZeroShot(DatasetEvalConfig {
            dataset: dataset.into(),
            every: one_epoch(),
            weights: None,
        })
    }

    /// Retrieval after every epoch.
    /// - dataset: as in [`DatasetEvalConfig::dataset`].
    pub fn retrieval(dataset: impl Into<std::path::PathBuf>) -> Self {
        Self::Retrieval(DatasetEvalConfig {
            dataset: dataset.into(),
            every: one_epoch(),
            weights: None,
        })
    }

    /// Loss and retrieval on the pairs of `data.val` after every epoch.
    pub fn held_out() -> Self {
        Self::HeldOut(RunEvalConfig {
            every: one_epoch(),
            weights: None,
        })
    }
}
