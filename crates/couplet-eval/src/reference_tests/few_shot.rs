//! Against `few_shot.json`, written by `tests/fixtures/make_few_shot.py`.

use serde::Deserialize;

use super::{DOUBLE_PRECISION, features};
use crate::few_shot::{FewShotClassifier, FewShotSettings, few_shot};
use crate::linear_probe::LabelledFeatures;
use crate::probe::ProbeData;

#[derive(Deserialize)]
struct Case {
    name: String,
    classes: usize,
    train_64ths: Vec<Vec<f32>>,
    train_labels: Vec<usize>,
    test_64ths: Vec<Vec<f32>>,
    test_labels: Vec<usize>,
    draws: Vec<Draw>,
}

#[derive(Deserialize)]
struct Draw {
    shots: usize,
    seed: u32,
    rows: Vec<usize>,
    classifier: String,
    strength: f64,
    top1: f64,
    mean_per_class: f64,
}

impl Draw {
    fn classifier(&self) -> FewShotClassifier {
        match self.classifier.as_str() {
            "ridge" => FewShotClassifier::Ridge { l2: self.strength },
            "logistic" => FewShotClassifier::Logistic { c: self.strength },
            other => unreachable!("no classifier {other}"),
        }
    }
}

#[test]
fn draws_and_accuracies_are_those_of_big_vision_in_numpy() {
    let cases = include_str!("../../tests/fixtures/few_shot.json");
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let split = |rows: &[Vec<f32>], labels: &[usize]| LabelledFeatures {
            features: features(rows, 64.0),
            labels: labels.to_vec(),
        };
        let data = ProbeData {
            name: case.name.clone(),
            class_names: (0..case.classes).map(|class| class.to_string()).collect(),
            train: split(&case.train_64ths, &case.train_labels),
            test: split(&case.test_64ths, &case.test_labels),
        };
        assert!(case.draws.len() > 30);
        for wanted in &case.draws {
            let settings = FewShotSettings {
                shots: vec![wanted.shots],
                seeds: 3,
                classifier: wanted.classifier(),
                is_normalized: false,
            };
            let found = few_shot(&data, &settings, |_, _| {}).unwrap();
            let draw = found[0].draws.iter().find(|draw| draw.seed == wanted.seed);
            let draw = draw.unwrap();
            let (kind, shots, seed) = (&wanted.classifier, wanted.shots, wanted.seed);
            let what = format!("{}: {kind}, {shots} shots, seed {seed}", case.name);
            assert_eq!(draw.rows, wanted.rows, "{what}");
            for (found, wanted) in [
                (draw.top1, wanted.top1),
                (draw.mean_per_class, wanted.mean_per_class),
            ] {
                let gap = (found - wanted).abs();
                assert!(gap < DOUBLE_PRECISION, "{what}: {found}, not {wanted}");
            }
        }
    }
}
