//! Metrics of classification scores.

use couplet_data::labelled::Targets;

use crate::confusion::ConfusionMatrix;
use crate::dataset::{Dataset, MainMetric};
use crate::metric::{Better, F1_MACRO, MAP, MEAN_PER_CLASS, MetricInfo, Metrics, TOP1, TOP5};

/// The number of classes that `top5` considers.
const TOP: usize = 5;

/// The metrics of a classification report, for logs and `checkpoint.best`.
pub fn class_metrics(dataset: &Dataset) -> &'static [MetricInfo] {
    match dataset.images.targets() {
        Targets::MultiLabel(_) => &[MAP],
        _ if dataset.metric == Some(MainMetric::F1Macro) => &[TOP1, TOP5, MEAN_PER_CLASS, F1_MACRO],
        _ => &[TOP1, TOP5, MEAN_PER_CLASS],
    }
}

/// Computes the metrics of a dataset's task.
/// - scores: `[images][classes]`, row-major.
pub(crate) fn score(
    scores: &[f32],
    class_names: &[String],
    dataset: &Dataset,
) -> (Metrics, Option<ConfusionMatrix>) {
    let classes = class_names.len();
    match dataset.images.targets() {
        Targets::MultiLabel(rows) => {
            let truth: Vec<&[bool]> = rows.iter().map(Vec::as_slice).collect();
            let value = mean_average_precision(scores, &truth, classes);
            (Metrics(vec![MAP.of(value)]), None)
        }
        Targets::Classes(labels) => {
            let (mut metrics, confusion) = score_classes(scores, labels, class_names);
            if dataset.metric == Some(MainMetric::F1Macro) {
                metrics.0.push(F1_MACRO.of(confusion.f1_macro()));
            }
            (metrics, Some(confusion))
        }
        Targets::Captions(_) => unreachable!("the dataset has classes"),
    }
}

/// Top-1, top-5 and the mean over classes of each class's top-1, without classes that have no images.
/// With fewer than 5 classes, top-5 is 1.
/// - scores: `[images][classes]`, row-major.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn score_classes(
    scores: &[f32],
    labels: &[usize],
    class_names: &[String],
) -> (Metrics, ConfusionMatrix) {
    let mut confusion = ConfusionMatrix::new(class_names);
    let mut top5 = 0;
    for (row, label) in scores.chunks_exact(class_names.len()).zip(labels) {
        top5 += usize::from(rank_of(row, *label) < TOP);
        confusion.add(*label, best(row));
    }
    let metrics = Metrics(vec![
        TOP1.of(confusion.accuracy()),
        TOP5.of(top5 as f64 / labels.len().max(1) as f64),
        MEAN_PER_CLASS.of(confusion.mean_per_class()),
    ]);
    (metrics, confusion)
}

/// Labels with the softmax of their logits, the most likely first.
/// - logits: `[labels]`.
pub fn ranked<'a>(labels: &'a [String], logits: &[f32]) -> Vec<(&'a str, f32)> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let shares = weights.iter().map(|weight| weight / sum);
    let mut ranked: Vec<_> = labels.iter().map(String::as_str).zip(shares).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// The class with the highest score; of equal scores the first, as in `argmax`. `None` if all are NaN.
pub(crate) fn best(scores: &[f32]) -> Option<usize> {
    let numbers = scores
        .iter()
        .enumerate()
        .filter(|(_, score)| !score.is_nan());
    let best = numbers.reduce(|best, one| if one.1 > best.1 { one } else { best });
    best.map(|(class, _)| class)
}

/// The number of classes that rank before the right one. Of equal scores, the first class comes first,
/// as in `argmax`; if the right class's score is NaN, all classes rank before it.
fn rank_of(scores: &[f32], label: usize) -> usize {
    let own = scores[label];
    if own.is_nan() {
        return scores.len();
    }
    scores
        .iter()
        .enumerate()
        .filter(|(class, score)| **score > own || (**score == own && *class < label))
        .count()
}

/// The mean over classes of the average precision, with each class's images ranked by score; of equal
/// scores, the earlier image comes first. A class that no image shows counts as 0.
/// Source: CLIP_benchmark `average_precision_per_class`.
/// - scores: `[images][classes]`, row-major; truth: for each image, whether it shows each class.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn mean_average_precision(scores: &[f32], truth: &[&[bool]], classes: usize) -> f64 {
    let mut sum = 0.0;
    for class in 0..classes {
        let score = |image: usize| scores[image * classes + class];
        let mut order: Vec<usize> = (0..truth.len()).collect();
        order.sort_by(|a, b| Better::Higher.compare(f64::from(score(*a)), f64::from(score(*b))));
        let (mut hits, mut precisions) = (0_usize, 0.0);
        for (at, image) in order.into_iter().enumerate() {
            if truth[image][class] {
                hits += 1;
                precisions += hits as f64 / (at + 1) as f64;
            }
        }
        sum += precisions / hits.max(1) as f64;
    }
    sum / classes.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_match_those_computed_by_hand() {
        let scores = [
            [0.9, 0.1, 0.0, 0.2, 0.3, 0.4],
            [0.9, 0.8, 0.0, 0.2, 0.3, 0.4],
            [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            [0.1, 0.1, 0.7, 0.6, 0.5, 0.4],
        ]
        .concat();
        let names: Vec<String> = (0..6).map(|class| class.to_string()).collect();
        let (metrics, confusion) = score_classes(&scores, &[0, 0, 5, 2], &names);
        assert_eq!(metrics.get("top1"), Some(0.75));
        assert_eq!(metrics.get("top5"), Some(0.75));
        // Class 0: 2 of 2, class 5: 0 of 1, class 2: 1 of 1.
        let mean = metrics.get("mean_per_class").unwrap();
        assert!((mean - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(confusion.worst(3), [(5, 0, 1)]);
    }

    #[test]
    fn ties_and_nan_never_improve_a_rank() {
        assert_eq!(rank_of(&[0.5, 0.5, 0.5], 0), 0);
        assert_eq!(rank_of(&[0.5, 0.5, 0.5], 2), 2);
        assert_eq!(rank_of(&[0.1, f32::NAN], 1), 2);
        assert_eq!(best(&[0.5, 0.5]), Some(0));
        assert_eq!(best(&[f32::NAN, -1.0]), Some(1));
        assert_eq!(best(&[f32::NAN]), None);
    }

    #[test]
    fn average_precision_matches_that_computed_by_hand() {
        // Class 0: images 2, 0, 1 by score, of which 2 and 1 show it: (1/1 + 2/3) / 2.
        // Class 1: no image shows it. Class 2: all scores are equal, image 1 shows it: 1/2.
        let scores = [0.5, 0.1, 0.3, 0.2, 0.1, 0.3, 0.9, 0.1, 0.3];
        let truth: [&[bool]; 3] = [
            &[false, false, false],
            &[true, false, true],
            &[true, false, false],
        ];
        let value = mean_average_precision(&scores, &truth, 3);
        let wanted = (5.0 / 6.0 + 0.0 + 0.5) / 3.0;
        assert!((value - wanted).abs() < 1e-12, "{value}");
    }
}
