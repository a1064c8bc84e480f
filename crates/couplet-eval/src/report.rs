//! Reports: the metrics of a model on a dataset.

use serde::Serialize;

use crate::dataset::MainMetric;
use crate::metric::{IMAGE_TO_TEXT_RECALL_1, Metrics, TEXT_TO_IMAGE_RECALL_1};

/// The results of a model on one dataset with one protocol. Fractions are from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub dataset: String,
    pub protocol: Protocol,
    #[serde(flatten)]
    pub metrics: Metrics,
    pub images: usize,
    /// The number of classes or captions.
    pub targets: usize,
    /// The number of held-out pairs that could not be read; they are not part of any metric. An
    /// evaluation of a dataset needs all of its images.
    pub skipped: usize,
}

impl Report {
    /// The result as one number, with what it is called: the dataset's own metric, else top-1 accuracy; in retrieval the mean
    /// of recall@1 of both directions.
    /// - main: of the dataset.
    pub fn headline(&self, main: Option<MainMetric>) -> (&'static str, f64) {
        if let Some(info) = main.map(MainMetric::info)
            && let Some(value) = self.metrics.get(info.name)
        {
            return (info.label, value);
        }
        let both = [IMAGE_TO_TEXT_RECALL_1, TEXT_TO_IMAGE_RECALL_1];
        if let [Some(texts), Some(images)] = both.map(|info| self.metrics.get(info.name)) {
            return ("R@1", f64::midpoint(texts, images));
        }
        let first = self.metrics.0.first();
        first.map_or(("", f64::NAN), |metric| (metric.info.label, metric.value))
    }
}

/// An evaluation protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    ZeroShot,
    /// With a head that was trained on the classes.
    Classification,
    Retrieval,
    LinearProbe,
    Knn,
    /// Classifiers that are fitted to a few training images of each class.
    FewShot,
    /// Which of two captions or images belong together.
    Compositional,
    /// The training loss over held-out pairs.
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
            Self::FewShot => "few-shot",
            Self::Compositional => "compositional",
            Self::HeldOut => "held-out",
        })
    }
}
