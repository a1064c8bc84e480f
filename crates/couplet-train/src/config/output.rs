//! `[checkpoint]` and `[log]`: what a run writes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evals::one_epoch;
use crate::duration::{Duration, Unit};

/// `[checkpoint]`: when checkpoints are written and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// How often to write a checkpoint: one length, or several such as `["1 epoch", "10
    /// minutes"]`. One is always written at the end.
    #[serde(default = "every_epoch")]
    pub every: Lengths,
    /// Number of latest checkpoints to keep, in addition to the best one.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1))]
    pub keep: usize,
    /// Metric that chooses the best checkpoint, such as `eval/shapes/top1`: the lowest of losses
    /// and ranks, the highest of all others. Without it no checkpoint is marked as the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["eval/shapes/top1"]))]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "OneOrSeveral", into = "OneOrSeveral")]
pub struct Lengths(pub Vec<Duration>);

#[derive(Serialize, Deserialize, JsonSchema)]
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

fn every_epoch() -> Lengths {
    Lengths(vec![one_epoch()])
}

fn default_keep() -> usize {
    3
}

/// `[log]`: what is logged and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// How often to write a line to `metrics.jsonl`, in steps, epochs or samples.
    #[serde(default = "ten_steps")]
    pub every: Duration,
    /// Also writes the metrics as TensorBoard event files to `tensorboard/` in the run's
    /// folder.
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
