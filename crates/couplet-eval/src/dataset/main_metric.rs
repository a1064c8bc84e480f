//! The metric by which results on a dataset are compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metric::{F1_MACRO, MAP, MEAN_PER_CLASS, MetricInfo, TOP1, TOP5};

/// The name of a metric of classification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MainMetric {
    /// The fraction of images whose class has the highest score.
    Top1,
    /// The fraction of images whose class is among the five with the highest scores.
    Top5,
    /// The mean over classes of each class's top-1.
    MeanPerClass,
    /// The mean over classes of F1, which is reported only where it is this metric.
    F1Macro,
    /// The mean over classes of the average precision, of several labels per image.
    Map,
}

impl MainMetric {
    /// The metric of this name.
    pub fn info(self) -> MetricInfo {
        match self {
            Self::Top1 => TOP1,
            Self::Top5 => TOP5,
            Self::MeanPerClass => MEAN_PER_CLASS,
            Self::F1Macro => F1_MACRO,
            Self::Map => MAP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files_are_those_of_the_metrics() {
        for metric in [
            MainMetric::Top1,
            MainMetric::Top5,
            MainMetric::MeanPerClass,
            MainMetric::F1Macro,
            MainMetric::Map,
        ] {
            let name = serde_json::to_value(metric).unwrap();
            assert_eq!(name, metric.info().name);
        }
    }
}
