//! `[[eval]]`: evaluations during training.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{Duration, Unit};

/// An `[[eval]]` table: an evaluation during training, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EvalConfig {
    /// Zero-shot classification by class names and templates.
    ZeroShot(DatasetEvalConfig),
    /// Image-to-text and text-to-image retrieval.
    Retrieval(DatasetEvalConfig),
    /// Loss and retrieval on the pairs of `[data.val]`.
    HeldOut(RunEvalConfig),
    /// Classification by the head that a run with `[classify]` trains.
    Classification(RunEvalConfig),
}

/// `kind = "zero-shot"` and `kind = "retrieval"`: an evaluation on a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetEvalConfig {
    /// Dataset to evaluate on: the name of a built-in one (`couplet eval datasets` lists them), a
    /// dataset file or a dataset's folder.
    pub dataset: PathBuf,
    /// How often to evaluate, in steps, epochs or samples; always at the end too.
    #[serde(default = "one_epoch")]
    pub every: Duration,
    /// Weights to evaluate. With an `[ema]` table the average by default, else the weights that
    /// the optimizer updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<EvalWeights>,
}

/// `kind = "held-out"` and `kind = "classification"`: an evaluation on the run's own data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunEvalConfig {
    /// How often to evaluate, in steps, epochs or samples; always at the end too.
    #[serde(default = "one_epoch")]
    pub every: Duration,
    /// Weights to evaluate. With an `[ema]` table the average by default, else the weights that
    /// the optimizer updates.
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

/// Which weights are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvalWeights {
    /// The moving average of `[ema]`.
    Ema,
    /// The weights that the optimizer updates.
    Raw,
}

pub(super) fn one_epoch() -> Duration {
    Duration {
        amount: 1.0,
        unit: Unit::Epochs,
    }
}
