//! `[guard]`: abilities that a fine-tuned model must keep.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evals::one_epoch;
use crate::duration::Duration;

/// `[guard]`: datasets on which the model must stay about as good as before the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardConfig {
    /// Datasets of old abilities, evaluated zero-shot or by retrieval before the first step and during training: names of
    /// built-in ones (`couplet eval datasets` lists them), dataset files or datasets' folders.
    #[schemars(extend("examples" = [["shapes"]]))]
    pub datasets: Vec<PathBuf>,
    /// How far accuracy (of retrieval: the mean recall@1 of both directions) may fall on any of them, as a share: 0.01 is
    /// one percentage point.
    #[schemars(range(min = 0.0, max = 1.0), extend("x-may-change" = true))]
    pub max_drop: f64,
    /// What happens when it has fallen further.
    #[serde(default)]
    pub on_drop: OnDrop,
    /// How often to evaluate, in steps, epochs or samples; always at the end too.
    #[serde(default = "one_epoch")]
    #[schemars(extend("x-may-change" = true))]
    pub every: Duration,
}

/// What a run does when an old ability has fallen too far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDrop {
    /// The run ends.
    #[default]
    Stop,
    /// The weights are mixed with those that the run began with, as few of these as suffice, and training goes on from
    /// there. Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
    Mix,
}

impl GuardConfig {
    /// What is wrong with the values, each with its key.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.datasets.is_empty() {
            problems.push(("datasets", "names no dataset".to_string()));
        }
        if !(0.0..=1.0).contains(&self.max_drop) {
            problems.push((
                "max_drop",
                "must be from 0 to 1: 0.01 is one percentage point".to_string(),
            ));
        }
        problems
    }
}
