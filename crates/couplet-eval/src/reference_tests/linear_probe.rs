//! Against `linear_probe.json`, written by `tests/fixtures/make_linear_probe.py`.

use serde::Deserialize;

use super::{DOUBLE_PRECISION, features};
use crate::{
    Ending, LabelledFeatures, LinearProbe, ProbeData, ProbeSettings, SolverOptions, linear_probe,
};

#[derive(Deserialize)]
struct Case {
    name: String,
    classes: usize,
    train_64ths: Vec<Vec<f32>>,
    train_labels: Vec<usize>,
    test_64ths: Vec<Vec<f32>>,
    test_labels: Vec<usize>,
    fits: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    c: f64,
    default: Fit,
    optimum: Fit,
    stopped_after_3: Fit,
    train_accuracy: f64,
    test_accuracy: f64,
}

#[derive(Deserialize)]
struct Fit {
    /// `[classes, embed_dim]`; with two classes, only the second's row.
    coef: Vec<Vec<f64>>,
    intercept: Vec<f64>,
    loss_sum: f64,
    objective: f64,
    iterations: u64,
}

/// How close coefficients are to the optimum when no component of the gradient is above 1e-5, for each
/// C. The objective's curvature along a weight may be as low as 1 / (C images), so for large C the same
/// gradient is further from the optimum. The largest differences measured are 1.1e-5, 2.3e-4 and 1.5e-3.
const AT_OPTIMUM: [f64; 3] = [2e-5, 5e-4, 3e-3];
/// The same between two fits with gradients up to 1e-4; measured: 7.6e-4, 5.0e-4 and 9.8e-3.
const AT_DEFAULT: [f64; 3] = [2e-3, 2e-3, 2e-2];
/// Logits are computed in `f32`; the largest measured error of the objective is 6e-9.
const OBJECTIVE_ROUNDING: f64 = 5e-8;

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/fixtures/linear_probe.json")).unwrap()
}

impl Case {
    fn train(&self) -> LabelledFeatures {
        LabelledFeatures {
            features: features(&self.train_64ths, 64.0),
            labels: self.train_labels.clone(),
        }
    }

    fn test(&self) -> LabelledFeatures {
        LabelledFeatures {
            features: features(&self.test_64ths, 64.0),
            labels: self.test_labels.clone(),
        }
    }
}

/// The largest difference of a weight or an intercept. For two classes scikit-learn has one row, which
/// is the difference of our two.
fn gap(probe: &LinearProbe, fit: &Fit) -> f64 {
    let rows: Vec<&[f64]> = probe.weights.chunks(probe.embed_dim).collect();
    let (weights, intercept) = match (fit.coef.len(), &rows[..]) {
        (1, [first, second]) => {
            let row = first
                .iter()
                .zip(*second)
                .map(|(first, second)| second - first);
            let shift = probe.intercept[1] - probe.intercept[0];
            (row.collect(), vec![shift])
        }
        _ => (probe.weights.clone(), probe.intercept.clone()),
    };
    let ours = weights.iter().chain(&intercept);
    let theirs: Vec<f64> = fit
        .coef
        .iter()
        .flatten()
        .chain(&fit.intercept)
        .copied()
        .collect();
    assert_eq!(weights.len() + intercept.len(), theirs.len());
    ours.zip(&theirs)
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f64::max)
}

/// The sum of the images' losses, computed in `f64` from the fitted weights.
fn loss_sum(probe: &LinearProbe, data: &Case) -> f64 {
    let loss = |(row, label): (&Vec<f32>, &usize)| {
        let logits: Vec<f64> = (probe.weights.chunks(probe.embed_dim).zip(&probe.intercept))
            .map(|(weights, shift)| {
                let pairs = weights.iter().zip(row);
                pairs
                    .map(|(weight, value)| weight * f64::from(*value) / 64.0)
                    .sum::<f64>()
                    + shift
            })
            .collect();
        logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[*label]
    };
    data.train_64ths
        .iter()
        .zip(&data.train_labels)
        .map(loss)
        .sum()
}

#[test]
fn converged_fits_have_the_coefficients_and_losses_of_scikit_learn() {
    let search = SolverOptions {
        max_iterations: 1000,
        tolerance: 1e-5,
    };
    for case in cases() {
        let train = case.train();
        for (expected, within) in case.fits.iter().zip(AT_OPTIMUM) {
            let what = format!("{}, C = {}", case.name, expected.c);
            let probe = LinearProbe::fit(&train, case.classes, expected.c, search, None);
            let gap = gap(&probe, &expected.optimum);
            assert!(
                probe.ending == Ending::Converged && gap < within,
                "{what}: {gap}"
            );
            let excess = probe.objective - expected.optimum.objective;
            assert!(excess.abs() < OBJECTIVE_ROUNDING, "{what}: {excess}");
            // The loss changes with the coefficients to first order, the objective only to second order.
            let excess = loss_sum(&probe, &case) - expected.optimum.loss_sum;
            assert!(excess.abs() < 1e-3, "{what}: {excess}");
        }
    }
}

/// Both end at the first step where no component of the gradient is above 1e-4, but on different paths.
#[test]
fn fits_at_the_default_tolerance_end_near_scikit_learn() {
    for case in cases() {
        let train = case.train();
        for (expected, within) in case.fits.iter().zip(AT_DEFAULT) {
            let what = format!("{}, C = {}", case.name, expected.c);
            let search = SolverOptions::default();
            let probe = LinearProbe::fit(&train, case.classes, expected.c, search, None);
            let gap = gap(&probe, &expected.default);
            assert!(
                probe.ending == Ending::Converged && gap < within,
                "{what}: {gap}"
            );
            let excess = probe.objective - expected.optimum.objective;
            let bounds = -OBJECTIVE_ROUNDING..5e-6;
            assert!(bounds.contains(&excess), "{what}: {excess}");
            let distance = probe.iterations.abs_diff(expected.default.iterations);
            assert!(distance <= 5, "{what}: {} iterations", probe.iterations);
        }
    }
}

#[test]
fn accuracies_are_those_of_scikit_learn() {
    for case in cases() {
        for expected in &case.fits {
            let parts = [
                (case.test(), expected.test_accuracy),
                (case.train(), expected.train_accuracy),
            ];
            for (test, accuracy) in parts {
                let names = (0..case.classes).map(|class| class.to_string());
                let data = ProbeData {
                    name: case.name.clone(),
                    class_names: names.collect(),
                    train: case.train(),
                    test,
                };
                let settings = ProbeSettings {
                    c: Some(expected.c),
                    search: SolverOptions::default(),
                };
                let report = linear_probe(&data, settings, |_, _| {}).unwrap().report;
                let found = report.metrics.get("top1").unwrap();
                let what = format!("{}, C = {}", case.name, expected.c);
                assert!(
                    (found - accuracy).abs() < DOUBLE_PRECISION,
                    "{what}: {found}"
                );
            }
        }
    }
}

/// The first step's length differs from SciPy's, so the paths differ by less than one iteration.
#[test]
fn a_fit_that_runs_out_of_iterations_is_as_far_as_scikit_learns() {
    let search = SolverOptions {
        max_iterations: 3,
        ..SolverOptions::default()
    };
    for case in cases() {
        let train = case.train();
        for expected in &case.fits {
            let what = format!("{}, C = {}", case.name, expected.c);
            let probe = LinearProbe::fit(&train, case.classes, expected.c, search, None);
            assert_eq!(probe.ending, Ending::MaxIterations, "{what}");
            assert_eq!(
                probe.iterations, expected.stopped_after_3.iterations,
                "{what}"
            );
            let excess = probe.objective - expected.stopped_after_3.objective;
            assert!(excess.abs() < 5e-3, "{what}: {excess}");
            assert!(
                probe.objective > expected.optimum.objective + 5e-3,
                "{what}"
            );
        }
    }
}

/// scikit-learn only knows the classes of the training images. Here, a class without training images
/// has a row of weights, and its intercept decreases until no image is classified as it.
#[test]
fn a_class_without_training_images_does_not_change_the_others() {
    let search = SolverOptions {
        max_iterations: 1000,
        tolerance: 1e-5,
    };
    for case in cases().iter().filter(|case| case.classes > 2) {
        let train = case.train();
        for (expected, within) in case.fits.iter().zip(AT_OPTIMUM) {
            let probe = LinearProbe::fit(&train, case.classes + 1, expected.c, search, None);
            // Intercepts may differ by a constant, on which no probability depends.
            let coef = expected.optimum.coef.iter().flatten();
            let pairs = probe.weights.iter().zip(coef);
            let gap = pairs.map(|(ours, theirs)| (ours - theirs).abs());
            let gap = gap.fold(0.0, f64::max);
            let what = format!("{}, C = {}", case.name, expected.c);
            assert!(
                probe.ending != Ending::MaxIterations && gap < within,
                "{what}: {gap}"
            );
            let scores = probe.scores(&train.features);
            let mut rows = scores.chunks(case.classes + 1);
            let is_last = |row: &[f32]| {
                row[..case.classes]
                    .iter()
                    .all(|score| *score < row[case.classes])
            };
            assert!(
                !rows.any(is_last),
                "{what}: an image is classified as the empty class"
            );
        }
    }
}
