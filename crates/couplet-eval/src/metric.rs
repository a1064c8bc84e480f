//! Describes every metric once: its name, its unit, and which values are better.

use std::cmp::Ordering;
use std::fmt;

use couplet_model::shortest;
use serde::{Serialize, Serializer};

/// The description of a metric, independent of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricInfo {
    /// The name in logs, in JSON and in `checkpoint.best`.
    pub name: &'static str,
    /// A name that is short enough for a table's header.
    pub label: &'static str,
    pub unit: Unit,
    /// Which values are better; `None` if neither is, as for a learning rate.
    pub better: Option<Better>,
}

/// The unit of a metric's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// From 0 to 1, shown as a percentage.
    Share,
    /// A rank in a ranking, counted from 1.
    Rank,
    Count,
    /// A loss with natural logarithms.
    Nats,
    SamplesPerSecond,
    /// Unitless, of the order of 1.
    Factor,
    /// Unitless, of any order of magnitude.
    Scale,
}

/// Which of two values is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// A metric with its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    pub info: MetricInfo,
    pub value: f64,
}

/// The metrics of one evaluation, in the order in which they are shown. Serialized as values by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(pub Vec<Metric>);

/// The prefix of evaluation metrics in logs.
pub const EVALUATION: &str = "eval/";

/// The fraction of images whose class has the highest score.
pub const TOP1: MetricInfo = share("top1", "top1");
/// The fraction of images whose class is among the five with the highest scores.
pub const TOP5: MetricInfo = share("top5", "top5");
/// The mean over classes of each class's `top1`.
pub const MEAN_PER_CLASS: MetricInfo = share("mean_per_class", "mean per class");
/// The standard deviation of `top1` over random draws.
pub const TOP1_STD: MetricInfo = deviation("top1_std", "± top1");
/// The standard deviation of `mean_per_class` over random draws.
pub const MEAN_PER_CLASS_STD: MetricInfo = deviation("mean_per_class_std", "± mean per class");
/// The mean over the classes of the images of each class's F1, the harmonic mean of recall and precision.
pub const F1_MACRO: MetricInfo = share("f1_macro", "F1 macro");
/// The mean over classes of the average precision.
pub const MAP: MetricInfo = share("map", "map");

pub const IMAGE_TO_TEXT_RECALL_1: MetricInfo = share("image_to_text_recall@1", "i→t R@1");
pub const IMAGE_TO_TEXT_RECALL_5: MetricInfo = share("image_to_text_recall@5", "i→t R@5");
pub const IMAGE_TO_TEXT_RECALL_10: MetricInfo = share("image_to_text_recall@10", "i→t R@10");
pub const IMAGE_TO_TEXT_MEDIAN_RANK: MetricInfo = rank("image_to_text_median_rank", "i→t rank");
pub const TEXT_TO_IMAGE_RECALL_1: MetricInfo = share("text_to_image_recall@1", "t→i R@1");
pub const TEXT_TO_IMAGE_RECALL_5: MetricInfo = share("text_to_image_recall@5", "t→i R@5");
pub const TEXT_TO_IMAGE_RECALL_10: MetricInfo = share("text_to_image_recall@10", "t→i R@10");
pub const TEXT_TO_IMAGE_MEDIAN_RANK: MetricInfo = rank("text_to_image_median_rank", "t→i rank");

/// The fraction of examples whose image is nearer to its caption than to the negative one.
pub const ACCURACY: MetricInfo = share("accuracy", "accuracy");
/// The mean over categories of `accuracy`.
pub const MACRO_ACCURACY: MetricInfo = share("macro_accuracy", "macro accuracy");
/// The fraction of examples in which each of two images is nearer to its own caption.
pub const TEXT_SCORE: MetricInfo = share("text_score", "text score");
/// The fraction of examples in which each of two captions is nearer to its own image.
pub const IMAGE_SCORE: MetricInfo = share("image_score", "image score");
/// The fraction of examples that count for both.
pub const GROUP_SCORE: MetricInfo = share("group_score", "group score");

/// The loss of a training step, or over held-out pairs.
pub const LOSS: MetricInfo = info("loss", Unit::Nats, Some(Better::Lower));
/// The inverse strength of a linear probe's regularization.
pub const C: MetricInfo = info("c", Unit::Scale, None);

/// The learning rate of a step.
pub const LR: MetricInfo = info("lr", Unit::Scale, None);
/// The scale of cosine similarities, not its logarithm.
pub const LOGIT_SCALE: MetricInfo = info("logit_scale", Unit::Factor, None);
/// The global norm of the gradients, before clipping.
pub const GRAD_NORM: MetricInfo = info("grad_norm", Unit::Factor, Some(Better::Lower));
pub const SAMPLES_PER_SECOND: MetricInfo = info(
    "samples_per_second",
    Unit::SamplesPerSecond,
    Some(Better::Higher),
);
/// The fraction of the time that training waits for data.
pub const DATA_WAIT: MetricInfo = info("data_wait", Unit::Share, Some(Better::Lower));

/// Training images of each class that a classifier was fitted to.
pub const SHOTS: MetricInfo = info("shots", Unit::Count, None);
/// Rows of a table that an evaluation compared.
pub const EXAMPLES: MetricInfo = info("examples", Unit::Count, None);
/// Images that an evaluation read.
pub const IMAGES: MetricInfo = info("images", Unit::Count, None);
/// Images that an evaluation could not read.
pub const SKIPPED: MetricInfo = info("skipped", Unit::Count, None);

/// Every metric that evaluations and training log.
const ALL: [MetricInfo; 31] = [
    TOP1,
    TOP5,
    MEAN_PER_CLASS,
    TOP1_STD,
    MEAN_PER_CLASS_STD,
    F1_MACRO,
    MAP,
    ACCURACY,
    MACRO_ACCURACY,
    TEXT_SCORE,
    IMAGE_SCORE,
    GROUP_SCORE,
    IMAGE_TO_TEXT_RECALL_1,
    IMAGE_TO_TEXT_RECALL_5,
    IMAGE_TO_TEXT_RECALL_10,
    IMAGE_TO_TEXT_MEDIAN_RANK,
    TEXT_TO_IMAGE_RECALL_1,
    TEXT_TO_IMAGE_RECALL_5,
    TEXT_TO_IMAGE_RECALL_10,
    TEXT_TO_IMAGE_MEDIAN_RANK,
    LOSS,
    C,
    LR,
    LOGIT_SCALE,
    GRAD_NORM,
    SAMPLES_PER_SECOND,
    DATA_WAIT,
    SHOTS,
    EXAMPLES,
    IMAGES,
    SKIPPED,
];

const fn info(name: &'static str, unit: Unit, better: Option<Better>) -> MetricInfo {
    MetricInfo {
        name,
        label: name,
        unit,
        better,
    }
}

const fn share(name: &'static str, label: &'static str) -> MetricInfo {
    MetricInfo {
        label,
        ..info(name, Unit::Share, Some(Better::Higher))
    }
}

const fn deviation(name: &'static str, label: &'static str) -> MetricInfo {
    MetricInfo {
        label,
        ..info(name, Unit::Share, None)
    }
}

const fn rank(name: &'static str, label: &'static str) -> MetricInfo {
    MetricInfo {
        label,
        ..info(name, Unit::Rank, Some(Better::Lower))
    }
}

impl MetricInfo {
    /// The metric with this name.
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|info| info.name == name)
    }

    /// The metric with this name in logs, such as `loss` or `eval/shapes/top1`.
    pub fn of_logged(name: &str) -> Option<Self> {
        let of_dataset = name.strip_prefix(EVALUATION);
        let of_dataset = of_dataset.and_then(|name| name.rsplit_once('/'));
        Self::find(of_dataset.map_or(name, |(_, metric)| metric))
    }

    /// The metric with a value.
    pub fn of(self, value: f64) -> Metric {
        Metric { info: self, value }
    }

    /// The name of the metric in logs for a dataset: `eval/DATASET/METRIC`.
    pub fn logged_as(self, dataset: &str) -> String {
        format!("{EVALUATION}{dataset}/{}", self.name)
    }
}

impl Unit {
    /// The unit as written after a value: `%`, `samples/s`.
    pub fn symbol(self) -> Option<&'static str> {
        match self {
            Self::Share => Some("%"),
            Self::Nats => Some("nats"),
            Self::SamplesPerSecond => Some("samples/s"),
            Self::Rank | Self::Count | Self::Factor | Self::Scale => None,
        }
    }

    /// A value as it is shown: a fraction as a percentage.
    pub fn shown(self, value: f64) -> f64 {
        match self {
            Self::Share => 100.0 * value,
            _ => value,
        }
    }

    /// A formatted value, with its significant digits, and with the unit of a fraction or a speed.
    pub fn format(self, value: f64) -> String {
        let shown = self.shown(value);
        match self {
            Self::Share => format!("{shown:.2}%"),
            Self::Rank => format!("{shown:.1}"),
            Self::Count => format!("{shown:.0}"),
            Self::Nats | Self::Factor => format!("{shown:.4}"),
            Self::SamplesPerSecond => format!("{shown:.0} samples/s"),
            Self::Scale => three_digits(shown),
        }
    }
}

/// Three significant digits, as people write them: `0.316`, `0.0008`, `1e-5`.
fn three_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    match rounded.abs() {
        0.0 | 1e-4..1e6 => format!("{rounded}"),
        _ => format!("{rounded:e}"),
    }
}

impl Better {
    /// Orders values from best to worst; NaN is worse than any number.
    pub fn compare(self, a: f64, b: f64) -> Ordering {
        match self {
            _ if a.is_nan() || b.is_nan() => a.is_nan().cmp(&b.is_nan()),
            Self::Higher => b.total_cmp(&a),
            Self::Lower => a.total_cmp(&b),
        }
    }

    /// Whether `value` is strictly better than `other`; NaN never is.
    pub fn is_better(self, value: f64, other: f64) -> bool {
        !value.is_nan() && value != other && self.compare(value, other).is_lt()
    }
}

/// The formatted value, with the unit of a fraction or a speed.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.info.unit.format(self.logged()))
    }
}

impl Metric {
    /// The value as files have it: without the digits in which sums of fractions are inexact.
    pub fn logged(&self) -> f64 {
        let rounded = format!("{:.11e}", shortest(self.value));
        rounded.parse().unwrap_or(self.value)
    }
}

impl Metrics {
    /// The value of the metric with this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().find(|metric| metric.info.name == name);
        found.map(|metric| metric.value)
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self
            .0
            .iter()
            .map(|metric| (metric.info.name, metric.logged()));
        serializer.collect_map(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_metric() {
        for info in ALL {
            assert_eq!(MetricInfo::find(info.name), Some(info));
            for name in [info.name, &info.logged_as("a-set")] {
                assert_eq!(MetricInfo::of_logged(name), Some(info));
            }
        }
        assert_eq!(MetricInfo::find("top"), None);
        assert_eq!(MetricInfo::of_logged("eval/top1"), None);
    }

    #[test]
    fn nan_is_never_better_and_always_last() {
        for better in [Better::Higher, Better::Lower] {
            assert!(!better.is_better(f64::NAN, 1.0) && better.is_better(1.0, f64::NAN));
            assert!(!better.is_better(f64::NAN, f64::NAN) && !better.is_better(0.0, -0.0));
            let mut values = [f64::NAN, 1.0, -f64::NAN, 2.0];
            values.sort_by(|a, b| better.compare(*a, *b));
            assert!(values[2].is_nan() && values[3].is_nan(), "{values:?}");
        }
        assert!(Better::Higher.is_better(2.0, 1.0) && !Better::Higher.is_better(1.0, 1.0));
        assert!(Better::Lower.is_better(1.0, 2.0) && !Better::Lower.is_better(2.0, 1.0));
    }

    #[test]
    fn values_are_shown_in_their_unit() {
        let shown = [
            TOP1.of(0.1234),
            TEXT_TO_IMAGE_MEDIAN_RANK.of(2.5),
            LOSS.of(1.0),
            LR.of(8e-4),
            SAMPLES_PER_SECOND.of(225.6),
            IMAGES.of(40.0),
        ];
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        let wanted = ["12.34%", "2.5", "1.0000", "0.0008", "226 samples/s", "40"];
        assert_eq!(shown, wanted);
        assert_eq!(format!("{:>8}", TOP1.of(0.5)), "  50.00%");
        let scales = [0.316_227_766, 3.652e-6, 0.0, 100.0, 1e6, -0.25];
        let scales = scales.map(|value| C.of(value).to_string());
        assert_eq!(scales, ["0.316", "3.65e-6", "0", "100", "1e6", "-0.25"]);
        let logged = [0.106_250_000_000_000_01, f64::from(0.1f32), 1.0 / 3.0];
        let logged = logged.map(|value| TOP1.of(value).logged());
        assert_eq!(logged, [0.10625, 0.1, 0.333_333_333_333]);
        assert!(TOP1.of(f64::NAN).logged().is_nan());
    }
}
