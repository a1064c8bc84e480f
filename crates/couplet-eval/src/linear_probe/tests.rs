use super::*;
use burn::tensor::Device;

/// Three overlapping clusters in the plane.
fn clusters(images: u16) -> LabelledFeatures {
    let values = (0..images).flat_map(|at| {
        let angle = f32::from(at) * 2.399_963;
        let spread = 0.3 + f32::from(at * 7 % 11) / 11.0;
        let centre = [[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]][usize::from(at % 3)];
        [
            centre[0] + spread * angle.cos(),
            centre[1] + spread * angle.sin(),
        ]
    });
    let values: Vec<f32> = values.collect();
    let data = TensorData::new(values, [usize::from(images), 2]);
    LabelledFeatures {
        features: Tensor::from_data(data, &Device::flex()),
        labels: (0..images).map(|at| usize::from(at % 3)).collect(),
    }
}

fn objective(data: &LabelledFeatures, classes: usize, strength: f64) -> Objective<'_> {
    Objective::new(&data.features, &data.labels, classes, strength, [0.0; 2])
}

#[test]
fn gradients_match_finite_differences() {
    let data = clusters(30);
    let objective = objective(&data, 3, 0.1);
    let at: Vec<f64> = (0..9).map(|part| f64::from(part) * 0.1 - 0.3).collect();
    let (_, gradient) = objective.evaluate(&at);
    for part in 0..9 {
        let value = |step: f64| {
            let mut moved = at.clone();
            moved[part] += step;
            objective.evaluate(&moved).0
        };
        let slope = (value(1e-2) - value(-1e-2)) / 2e-2;
        assert!(
            (slope - gradient[part]).abs() < 1e-4,
            "{part}: {slope}, {}",
            gradient[part]
        );
    }
}

#[test]
fn a_fit_ends_where_the_gradient_is_small() {
    let data = clusters(300);
    let search = SolverOptions {
        tolerance: 1e-5,
        ..SolverOptions::default()
    };
    let probe = LinearProbe::fit(&data, 3, 1.0, search, None);
    assert_eq!(probe.ending, Ending::Converged);
    assert!(probe.iterations > 1);
    let objective = objective(&data, 3, 1.0 / 300.0);
    let (value, gradient) = objective.evaluate(&[&probe.weights[..], &probe.intercept].concat());
    assert!((value - probe.objective).abs() < 1e-9);
    assert!(
        gradient.iter().all(|part| part.abs() < 2e-5),
        "{gradient:?}"
    );
    assert!(probe.accuracy(&data) > 0.7);
}

/// With two classes, a row of weights and its negative share what scikit-learn's single row has, so
/// that the objective is the same.
#[test]
fn two_classes_are_regularized_as_one_row() {
    let mut data = clusters(200);
    for label in &mut data.labels {
        *label = usize::from(*label == 0);
    }
    let probe = LinearProbe::fit(&data, 2, 0.5, SolverOptions::default(), None);
    let row: Vec<f64> = (0..2)
        .map(|at| probe.weights[2 + at] - probe.weights[at])
        .collect();
    let squares: f64 = row.iter().map(|weight| weight * weight).sum();
    let own: f64 = probe.weights.iter().map(|weight| weight * weight).sum();
    assert!((2.0 * own - squares).abs() < 1e-4, "{own} and {squares}");
}

#[test]
fn the_sweep_ends_at_one_of_96_steps() {
    let data = clusters(120);
    let mut tried = Vec::new();
    let probe = LinearProbe::sweep(&data, 3, SolverOptions::default(), |c, _| tried.push(c));
    // Seven to start with, and at most two for each of four strides.
    assert!((11..=15).contains(&tried.len()), "{tried:?}");
    assert!((tried[1] / tried[0] - 100.0).abs() < 1e-6);
    assert!(tried.contains(&probe.c));
    assert_eq!(data.split().1.labels.len(), 24);
}

/// As [`clusters`], with every feature multiplied.
fn clusters_of_scale(scale: f32) -> LabelledFeatures {
    let data = clusters(90);
    LabelledFeatures {
        features: data.features.mul_scalar(scale),
        labels: data.labels,
    }
}

fn fit(data: &LabelledFeatures) -> LinearProbe {
    LinearProbe::fit(data, 3, 1.0, SolverOptions::default(), None)
}

#[test]
fn features_of_any_scale_are_fitted() {
    let usual = fit(&clusters_of_scale(1.0)).accuracy(&clusters_of_scale(1.0));
    for scale in [2e3, 1e10, 1e20, 1e30, 1e38] {
        let data = clusters_of_scale(scale);
        let probe = fit(&data);
        assert!(
            probe
                .weights
                .iter()
                .chain(&probe.intercept)
                .all(|value| value.is_finite())
        );
        let accuracy = probe.accuracy(&data);
        assert!(accuracy >= usual - 0.03, "{scale}: {accuracy}, {usual}");
        assert!(
            probe.objective < 3.0_f64.ln(),
            "{scale}: {}",
            probe.objective
        );
    }
    // As in scikit-learn: nothing is learned from features that are small against the regularization.
    for scale in [1e-10, 1e-20, 1e-30, 1e-40, 0.0] {
        let probe = fit(&clusters_of_scale(scale));
        assert_eq!(probe.ending, Ending::Converged, "{scale}");
        assert!(
            probe
                .weights
                .iter()
                .chain(&probe.intercept)
                .all(|value| *value == 0.0)
        );
    }
}

#[test]
fn a_sweep_over_huge_features_ends() {
    let data = clusters_of_scale(1e20);
    let probe = LinearProbe::sweep(&data, 3, SolverOptions::default(), |_, _| {});
    assert!(probe.accuracy(&data) > 0.7, "{}", probe.accuracy(&data));
}

#[test]
fn a_huge_row_or_column_ends_the_search() {
    let mut values: Vec<f32> = clusters(90).features.into_data().try_to_vec().unwrap();
    let labels = clusters(90).labels;
    let huge = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [90, 2]);
        LabelledFeatures {
            features: Tensor::from_data(data, &Device::flex()),
            labels: labels.clone(),
        }
    };
    let row: Vec<f32> = [&[1e20, 1e20], &values[2..]].concat();
    let probe = fit(&huge(&row));
    assert!(probe.objective.is_finite() && probe.gradient.is_finite());
    for value in values.iter_mut().step_by(2) {
        *value *= 1e20;
    }
    let probe = fit(&huge(&values));
    // One of the two features remains: more than chance.
    assert!(probe.accuracy(&huge(&values)) > 0.5);
}
