//! A sweep's TOML file.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Table;

/// A sweep's TOML file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    pub name: String,
    /// The config of every trial.
    pub config: PathBuf,
    /// The number of `metrics.jsonl` that ranks, such as `eval/shapes/top1`: a trial's
    /// best one counts.
    pub metric: String,
    #[serde(default)]
    pub goal: Goal,
    #[serde(default)]
    pub search: Search,
    /// Keys that every trial sets, as `--set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// What is tried of each key: a list of values, or for random search a range.
    pub keys: Table,
}

/// Which values are good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    #[default]
    Max,
    Min,
}

/// How trials are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Search {
    /// Every combination.
    #[default]
    Grid,
    /// So many draws, each a pure function of seed, trial and key.
    Random {
        trials: usize,
        #[serde(default)]
        seed: u64,
    },
}

/// `{ min, max, scale }`: drawn evenly between, or evenly between the logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    min: f64,
    max: f64,
    #[serde(default)]
    scale: Scale,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scale {
    #[default]
    Linear,
    Log,
}

impl Range {
    /// - share: of the way from `min` to `max`, in [0, 1).
    pub(super) fn at(self, share: f64) -> Result<f64, &'static str> {
        if !(self.min.is_finite() && self.max.is_finite() && self.min < self.max) {
            return Err("min must be below max");
        }
        match self.scale {
            Scale::Linear => Ok(self.min + share * (self.max - self.min)),
            Scale::Log if self.min > 0.0 => Ok(self.min * (self.max / self.min).powf(share)),
            Scale::Log => Err("a logarithmic range needs a positive min"),
        }
    }
}
