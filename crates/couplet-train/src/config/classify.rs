//! `[classify]`: the image tower fine-tuned to tell a dataset's classes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[classify]`: fine-tunes the image tower with a classifier on its normalized features. The
/// text tower is not trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyConfig {
    /// Dataset with the classes: the name of a built-in one (`couplet eval datasets` lists them), a
    /// dataset file or a dataset's folder. Trains on its training images and evaluates on its
    /// test images.
    pub dataset: PathBuf,
    /// Initial weights of the classifier.
    #[serde(default)]
    pub head: HeadStart,
}

/// Initial weights of a classifier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeadStart {
    /// Text features of the classes, times `exp(logit_scale)`: the model starts as its own
    /// zero-shot classifier. Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    /// models".
    #[default]
    ZeroShot,
    /// Zeros.
    Zeros,
}
