//! Against `classification.json`, written by `tests/fixtures/make_classification.py`.

use serde::Deserialize;

use super::{DOUBLE_PRECISION, Expected};
use crate::scoring::{mean_average_precision, score_classes};

#[derive(Deserialize)]
struct Fixture {
    single_label: Vec<SingleLabel>,
    multi_label: Vec<MultiLabel>,
}

#[derive(Deserialize)]
struct SingleLabel {
    name: String,
    classes: usize,
    scores_8ths: Vec<Vec<f32>>,
    labels: Vec<usize>,
    metrics: Vec<Expected>,
}

#[derive(Deserialize)]
struct MultiLabel {
    name: String,
    classes: usize,
    scores_8ths: Vec<Vec<f32>>,
    /// For each image, 1 for each class that it shows and 0 for the others.
    truth: Vec<Vec<u8>>,
    metrics: Vec<Expected>,
    by_class: Vec<ClassExpected>,
}

#[derive(Deserialize)]
struct ClassExpected {
    #[serde(flatten)]
    expected: Expected,
    scikit_learn: f64,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../tests/fixtures/classification.json")).unwrap()
}

fn flat(scores_8ths: &[Vec<f32>]) -> Vec<f32> {
    scores_8ths
        .iter()
        .flatten()
        .map(|eighths| eighths / 8.0)
        .collect()
}

#[test]
fn accuracies_and_mean_per_class_are_those_of_clip_benchmark() {
    for case in fixture().single_label {
        let names: Vec<String> = (0..case.classes).map(|class| class.to_string()).collect();
        let (metrics, _) = score_classes(&flat(&case.scores_8ths), &case.labels, &names);
        assert_eq!(metrics.0.len(), case.metrics.len());
        for expected in &case.metrics {
            let ours = metrics.get(&expected.metric).unwrap();
            expected.check(ours, expected.clip_benchmark);
            assert_eq!(expected.is_tied(), case.name == "tied", "{expected:?}");
        }
    }
}

#[test]
fn mean_average_precision_is_that_of_clip_benchmark() {
    for case in fixture().multi_label {
        let truth: Vec<Vec<bool>> = (case.truth.iter())
            .map(|row| row.iter().map(|shown| *shown == 1).collect())
            .collect();
        let rows: Vec<&[bool]> = truth.iter().map(|row| &row[..]).collect();
        let ours = mean_average_precision(&flat(&case.scores_8ths), &rows, case.classes);
        let [expected] = &case.metrics[..] else {
            panic!("{} has one metric", case.name);
        };
        expected.check(ours, expected.clip_benchmark);
        assert_eq!(expected.is_tied(), case.name == "tied");
    }
}

/// A class without images counts as 0, as in both references. scikit-learn treats equal scores as one
/// threshold, so its value is compared only where there are none.
#[test]
fn average_precision_of_each_class_is_that_of_clip_benchmark_and_scikit_learn() {
    for case in fixture().multi_label {
        assert_eq!(case.by_class.len(), case.classes);
        for (
            class,
            ClassExpected {
                expected,
                scikit_learn,
            },
        ) in case.by_class.iter().enumerate()
        {
            let scores: Vec<f32> = case
                .scores_8ths
                .iter()
                .map(|row| row[class] / 8.0)
                .collect();
            let truth: Vec<[bool; 1]> = case.truth.iter().map(|row| [row[class] == 1]).collect();
            let truth: Vec<&[bool]> = truth.iter().map(|row| &row[..]).collect();
            let ours = mean_average_precision(&scores, &truth, 1);
            expected.check(ours, expected.clip_benchmark);
            if !expected.is_tied() {
                assert!(
                    (ours - scikit_learn).abs() <= DOUBLE_PRECISION,
                    "class {class}"
                );
            }
        }
        let without = case
            .by_class
            .iter()
            .filter(|class| class.scikit_learn == 0.0);
        assert_eq!(without.count(), 1, "one class has no image");
    }
}
