//! A run's config: one TOML file, every table owned by the crate that builds it.

mod builder;
mod changes;
mod check;
mod classify;
mod collect;
mod data;
mod dataset_file;
mod differences;
mod edit;
mod evals;
mod file;
mod given;
mod guard;
mod in_code;
mod issue;
mod micro;
mod open;
mod other_keys;
mod output;
mod path_keys;
mod paths;
mod place;
mod ranks;
mod resolved;
pub mod schema;
mod spans;
mod tables;
mod weights;
mod words;

pub use builder::RunBuilder;
pub(crate) use changes::{Change, ChangeKind, changes};
pub use check::DeviceCheck;
pub use classify::{ClassifyConfig, HeadStart};
pub use dataset_file::dataset_mistakes;
pub use differences::{ConfigDifference, config_differences};
pub use evals::{DatasetEvalConfig, EvalConfig, EvalWeights, RunEvalConfig};
pub(crate) use file::read_file;
pub use guard::{GuardConfig, OnDrop};
pub use in_code::UnknownPreset;
pub use issue::{ConfigError, ConfigIssue, IssueKind};
pub use micro::MicroBatch;
pub use output::{CheckpointConfig, Lengths, LogConfig};
pub(crate) use path_keys::make_absolute;
pub use paths::ConfigInput;
pub use place::Place;
pub use ranks::{DataPlane, RanksConfig};
pub use resolved::EvalTarget;
pub(crate) use resolved::{Classes, HELD_OUT, LoggedMetric, ResolvedEval, ResolvedGuard};
pub use resolved::{ResolvedData, ResolvedRun};
pub(crate) use tables::default_max_skipped;
pub use tables::{BatchConfig, DataConfig, ModelConfig, RunConfig, TrainDataConfig, ValDataConfig};
pub(crate) use words::set_words_right;

#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod span_tests;
#[cfg(test)]
mod tests;
