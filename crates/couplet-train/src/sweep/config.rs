//! A sweep's TOML file.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use couplet_data::paths::{PathBase, PathKind};
use couplet_eval::Better;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Table;

use super::problem::Problem;
use crate::config::schema::ConfigSchema;

/// The TOML file of a sweep.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Name of the sweep; its folder is `runs/NAME` by default.
    pub name: String,
    /// The run config that all trials start from; a relative path starts from the sweep's folder.
    pub config: PathBuf,
    /// The metric of `metrics.jsonl` to rank by, such as `eval/shapes/top1`. For an evaluation a
    /// trial's best value counts; for a training metric the mean over the last tenth of its lines.
    pub metric: String,
    /// Whether the highest or the lowest values rank first; overrides the metric's own direction.
    #[serde(default)]
    pub goal: Option<Goal>,
    /// How values are chosen from `keys`.
    #[serde(default)]
    pub search: Search,
    /// Values that every trial sets, in the form of `--set`.
    #[serde(default)]
    pub set: Vec<String>,
    /// The values to try for each key: a list or, in random search, a range.
    #[schemars(with = "std::collections::BTreeMap<String, bool>", extend("x-any-keys" = true))]
    pub keys: Table,
    /// Where paths in `set` and `keys` start.
    #[serde(skip)]
    pub(super) base: Option<PathBase>,
}

/// The schema of a sweep's file.
pub(crate) fn sweep_schema() -> &'static ConfigSchema {
    static SWEEP: LazyLock<ConfigSchema> = LazyLock::new(ConfigSchema::of::<SweepConfig>);
    &SWEEP
}

impl SweepConfig {
    /// Finds the run config.
    /// - file: the sweep's own; data_root: replaces the folders of files as the start of paths to data.
    pub(super) fn find_config(
        &mut self,
        file: &Path,
        data_root: Option<&Path>,
    ) -> Result<(), Problem> {
        let base = PathBase::of_file(file, data_root);
        let path = self.config.display().to_string();
        let found = base.find("config", &path, PathKind::File);
        let found = found.map_err(|missing| Problem::from(format!("config: {missing}")))?;
        self.config = found.into();
        self.base = Some(base);
        Ok(())
    }
}

/// Which values rank first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The highest.
    Max,
    /// The lowest.
    Min,
}

impl From<Goal> for Better {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Max => Self::Higher,
            Goal::Min => Self::Lower,
        }
    }
}

/// How the trials' values are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Search {
    /// Every combination of the lists' values.
    #[default]
    Grid,
    /// Random draws, each a pure function of seed, trial and key.
    Random {
        /// Number of trials.
        #[schemars(range(min = 1))]
        trials: usize,
        /// Seeds the draws.
        #[serde(default)]
        seed: u64,
    },
}

/// `{ min, max, scale }`: uniform, or uniform in the logarithm.
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
    /// The value at a position in the range.
    /// - share: 0 is `min`; below 1.
    pub(super) fn at(self, share: f64) -> Result<f64, &'static str> {
        if !(self.min.is_finite() && self.max.is_finite() && self.min < self.max) {
            return Err("`min` must be less than `max`");
        }
        match self.scale {
            Scale::Linear => Ok(self.min + share * (self.max - self.min)),
            Scale::Log if self.min > 0.0 => Ok(self.min * (self.max / self.min).powf(share)),
            Scale::Log => Err("a logarithmic range needs a positive `min`"),
        }
    }
}
