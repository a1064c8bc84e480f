//! What every protocol gives: metrics of a model on a dataset.

use serde::Serialize;

use crate::metric::Metrics;

/// How a model did on one dataset by one protocol. Shares are from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub dataset: String,
    pub protocol: Protocol,
    #[serde(flatten)]
    pub metrics: Metrics,
    pub images: usize,
    /// Classes, or captions.
    pub targets: usize,
    /// Images that could not be read; they count nowhere.
    pub skipped: usize,
}

/// A way of evaluating a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    ZeroShot,
    /// By a head trained for the classes.
    Classification,
    Retrieval,
    LinearProbe,
    Knn,
    /// The training loss over pairs that are not trained on.
    HeldOut,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ZeroShot => "zero-shot",
            Self::Classification => "classification",
            Self::Retrieval => "retrieval",
            Self::LinearProbe => "linear-probe",
            Self::Knn => "k-NN",
            Self::HeldOut => "held-out",
        })
    }
}
