//! What every protocol gives: numbers by name.

use serde::{Serialize, Serializer};

/// How a model did on one dataset by one protocol. Shares are in [0, 1].
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

/// A way of judging a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    ZeroShot,
    /// By a head that was trained for the classes.
    Classification,
    Retrieval,
    LinearProbe,
    Knn,
    /// The training loss over pairs that were not trained on.
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

/// Numbers by name, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(pub Vec<(&'static str, f64)>);

impl Metrics {
    /// A number by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}
