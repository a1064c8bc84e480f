//! A run's config: one TOML file, every table owned by the crate that builds it.

mod builder;
mod changes;
mod check;
mod classify;
mod collect;
mod data;
mod differences;
mod edit;
mod evals;
mod given;
mod in_code;
mod issue;
mod open;
mod output;
mod path_keys;
mod paths;
mod resolved;
pub mod schema;
mod tables;
mod weights;

pub use builder::RunBuilder;
pub(crate) use changes::{Change, ChangeKind, changes};
pub use check::DeviceCheck;
pub use classify::{ClassifyConfig, HeadStart};
pub use differences::{ConfigDifference, config_differences};
pub use evals::{DatasetEvalConfig, EvalConfig, EvalWeights, RunEvalConfig};
pub use in_code::UnknownPreset;
pub use issue::{ConfigError, ConfigIssue};
pub use output::{CheckpointConfig, Lengths, LogConfig};
pub(crate) use path_keys::make_absolute;
pub use paths::ConfigInput;
pub(crate) use resolved::{Classes, EvalTarget, HELD_OUT, LoggedMetric, ResolvedEval};
pub use resolved::{ResolvedData, ResolvedRun};
pub use tables::{BatchConfig, DataConfig, ModelConfig, RunConfig, TrainDataConfig, ValDataConfig};

#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod tests;
