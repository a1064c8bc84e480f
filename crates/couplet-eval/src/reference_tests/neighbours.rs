//! Against `neighbours.json`, written by `tests/fixtures/make_neighbours.py`.

use couplet_model::l2_normalize;
use serde::Deserialize;

use super::features;
use crate::nearest_neighbours;

#[derive(Deserialize)]
struct Fixture {
    train_64ths: Vec<Vec<f32>>,
    train_labels: Vec<usize>,
    test_64ths: Vec<Vec<f32>>,
    predictions: Vec<Prediction>,
}

#[derive(Deserialize)]
struct Prediction {
    k: usize,
    classes: Vec<usize>,
}

#[test]
fn classes_of_nearest_neighbours_are_those_of_scikit_learn() {
    let fixture = include_str!("../../tests/fixtures/neighbours.json");
    let fixture: Fixture = serde_json::from_str(fixture).unwrap();
    let [train, test] =
        [&fixture.train_64ths, &fixture.test_64ths].map(|rows| l2_normalize(features(rows, 64.0)));
    assert!(fixture.predictions.len() > 3);
    for Prediction { k, classes } in fixture.predictions {
        let found = nearest_neighbours(&train, &fixture.train_labels, &test, k);
        assert_eq!(found, classes, "k = {k}");
    }
}
