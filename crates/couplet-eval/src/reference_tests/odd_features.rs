//! Against `odd_features.json`, written by `tests/fixtures/make_odd_features.py`.

use serde::Deserialize;

use super::features;
use crate::{LabelledFeatures, LinearProbe, ProbeData, ProbeSettings, SolverOptions, linear_probe};

#[derive(Deserialize)]
struct Case {
    name: String,
    features_64ths: Vec<Vec<f32>>,
    exponent: i32,
    labels: Vec<usize>,
    coef: Vec<Vec<f64>>,
    intercept: Vec<f64>,
    accuracy: f64,
}

#[test]
fn features_of_any_scale_and_kind_are_fitted_as_by_scikit_learn() {
    let text = include_str!("../../tests/fixtures/odd_features.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    for case in cases {
        let scale = 2.0_f32.powi(case.exponent);
        let data = LabelledFeatures {
            features: features(&case.features_64ths, 64.0).mul_scalar(scale),
            labels: case.labels.clone(),
        };
        let search = SolverOptions {
            max_iterations: 1000,
            tolerance: 1e-5,
        };
        let probe = LinearProbe::fit(&data, 3, 1.0, search, None);
        // Huge features have the coefficients of usual ones, divided by their scale.
        let times = f64::from(scale.max(1.0));
        let coef = case.coef.iter().flatten();
        let pairs = probe.weights.iter().zip(coef).map(|(a, b)| (a * times, *b));
        let shifts = probe.intercept.iter().zip(&case.intercept);
        let pairs = pairs.chain(shifts.map(|(a, b)| (*a, *b)));
        let gap = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(gap < 3e-3, "{}: {gap}", case.name);
        let data = ProbeData {
            name: case.name.clone(),
            class_names: ["a", "b", "c"].map(String::from).to_vec(),
            train: data.clone(),
            test: data,
        };
        let settings = ProbeSettings {
            c: Some(1.0),
            search,
        };
        let report = linear_probe(&data, settings, |_, _| {}).unwrap().report;
        let found = report.metrics.get("top1").unwrap();
        // A row at a border between classes may change sides.
        assert!(
            (found - case.accuracy).abs() < 0.02,
            "{}: {found}",
            case.name
        );
    }
}
