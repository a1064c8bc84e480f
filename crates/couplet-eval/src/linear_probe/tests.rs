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
    Objective {
        features: &data.features,
        labels: &data.labels,
        classes,
        strength,
        tolerance: 0.0,
        memo: Mutex::default(),
    }
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
    assert!(probe.converged && probe.iterations > 1);
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
