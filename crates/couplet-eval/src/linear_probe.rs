//! Logistic regression on frozen features, fitted by L-BFGS.
//!
//! Source: Radford et al. 2021, section 3.2 and appendix A.3; the objective is that of
//! scikit-learn's `LogisticRegression(C=…)`.

use std::sync::{Mutex, PoisonError};

use argmin::core::{
    CostFunction, Error, Executor, Gradient, State, TerminationReason, TerminationStatus,
};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Steps whose curvature L-BFGS remembers, as SciPy does.
const MEMORY: usize = 10;
/// The line search's conditions, as SciPy's.
const DECREASE: f64 = 1e-3;
const CURVATURE: f64 = 0.9;
const WIDTH: f64 = 0.1;
/// Rows whose logits exist at once.
const ROWS: usize = 4096;
/// The paper's sweep: from 1e-6 to 1e6 with so many steps.
const SWEEP_STEPS: usize = 96;
const SWEEP_RANGE: f64 = 6.0;
/// The sweep begins with every so many of them.
const FIRST_STRIDE: usize = 16;
/// Every so many images validate the sweep.
const VALIDATED: usize = 5;

/// LabelledFeatures features: `[images, embed_dim]` and a class for each.
#[derive(Debug, Clone)]
pub struct LabelledFeatures {
    pub features: Tensor<2>,
    pub labels: Vec<usize>,
}

/// A fitted classifier: `features · weightsᵀ + intercept` are the classes' scores.
#[derive(Debug, Clone)]
pub struct LinearProbe {
    /// `[classes, embed_dim]`, rows first.
    pub weights: Vec<f64>,
    pub intercept: Vec<f64>,
    pub embed_dim: usize,
    /// The inverse strength of the regularisation.
    pub c: f64,
    /// Of the fit: mean loss plus regularisation, as scikit-learn minimises it divided by
    /// the number of images.
    pub objective: f64,
    pub iterations: u64,
    /// Whether the search ended before its iterations did.
    pub converged: bool,
}

/// How long L-BFGS goes on.
#[derive(Debug, Clone, Copy)]
pub struct SolverOptions {
    pub max_iterations: u64,
    /// Where no part of the gradient is larger the search ends, as scikit-learn's `tol`.
    pub tolerance: f64,
}

impl Default for SolverOptions {
    /// scikit-learn's tolerance, and enough steps to get there.
    fn default() -> Self {
        Self {
            max_iterations: 1000,
            tolerance: 1e-4,
        }
    }
}

impl LinearProbe {
    /// Fits multinomial logistic regression with an unregularised intercept. Of two classes
    /// the weights are regularised as scikit-learn does with its single row of them.
    /// - start: what the search begins with, zeros by default.
    ///
    /// # Panics
    /// If there are no images, a label is not below `classes`, or the device fails.
    pub fn fit(
        data: &LabelledFeatures,
        classes: usize,
        c: f64,
        search: SolverOptions,
        start: Option<&Self>,
    ) -> Self {
        let [images, embed_dim] = data.features.dims();
        assert!(images > 0 && data.labels.iter().all(|label| *label < classes));
        #[expect(clippy::cast_precision_loss, reason = "images are far below 2^53")]
        let strength = 1.0 / (c * images as f64) * if classes == 2 { 2.0 } else { 1.0 };
        let objective = Objective {
            data,
            classes,
            strength,
            tolerance: search.tolerance,
            memo: Mutex::default(),
        };
        let zeros = vec![0.0; classes * (embed_dim + 1)];
        let start = start.map_or(zeros, |start| {
            [&start.weights[..], &start.intercept[..]].concat()
        });
        let line_search = MoreThuenteLineSearch::new()
            .with_c(DECREASE, CURVATURE)
            .and_then(|line_search| line_search.with_width_tolerance(WIDTH))
            .expect("the conditions are sound");
        // The search is ended by the objective, which has the same measure as SciPy.
        let solver = LBFGS::new(line_search, MEMORY)
            .with_tolerance_grad(0.0)
            .and_then(|solver| solver.with_tolerance_cost(0.0))
            .expect("the tolerances are not negative");
        let run = Executor::new(Borrowed(&objective), solver)
            .configure(|state| state.param(start.clone()).max_iters(search.max_iterations))
            .timer(false)
            .run();
        // An error is the objective's end of the search at its very first step.
        let (iterations, exhausted) = run.map_or((0, false), |run| {
            let reason = run.state().get_termination_status();
            let exhausted = TerminationStatus::Terminated(TerminationReason::MaxItersReached);
            (run.state().get_iter(), *reason == exhausted)
        });
        let (mut weights, value) = objective.take_result().unwrap_or_else(|| {
            let value = objective.evaluate(&start).0;
            (start, value)
        });
        let intercept = weights.split_off(classes * embed_dim);
        Self {
            weights,
            intercept,
            embed_dim,
            c,
            objective: value,
            iterations,
            converged: !exhausted,
        }
    }

    /// Fits with the regularisation that does best on every fifth image, and then to all:
    /// the paper's sweep over 96 steps from 1e-6 to 1e6, first every sixteenth, then ever
    /// closer around the best.
    /// - progress: told each strength and its accuracy on the validation images.
    ///
    /// # Panics
    /// As [`Self::fit`].
    pub fn sweep(
        data: &LabelledFeatures,
        classes: usize,
        search: SolverOptions,
        mut progress: impl FnMut(f64, f64),
    ) -> Self {
        let (fitted, validated) = data.split();
        let mut tried: Vec<(usize, f64, Self)> = Vec::new();
        let mut stride = FIRST_STRIDE;
        let mut steps: Vec<usize> = (0..=SWEEP_STEPS).step_by(stride).collect();
        loop {
            for step in steps.drain(..) {
                if tried.iter().any(|(known, ..)| *known == step) {
                    continue;
                }
                // The nearest fit so far is the best place to begin.
                let near = tried.iter().min_by_key(|(known, ..)| known.abs_diff(step));
                let near = near.map(|(_, _, probe)| probe);
                let probe = Self::fit(&fitted, classes, strength_at(step), search, near);
                let accuracy = probe.accuracy(&validated);
                progress(probe.c, accuracy);
                tried.push((step, accuracy, probe));
            }
            let best = tried
                .iter()
                .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            let (at, _, probe) = best.expect("the sweep begins with some");
            stride /= 2;
            if stride == 0 {
                return Self::fit(data, classes, strength_at(*at), search, Some(probe));
            }
            let around = [at.checked_sub(stride), Some(at + stride)];
            steps = around
                .into_iter()
                .flatten()
                .filter(|step| *step <= SWEEP_STEPS)
                .collect();
        }
    }

    /// The classes' scores of each image, `[images][classes]`.
    ///
    /// # Panics
    /// If the device fails.
    pub fn scores(&self, features: &Tensor<2>) -> Vec<f32> {
        let weights = self.weights_tensor(features);
        let classes = self.intercept.len();
        let mut scores = Vec::with_capacity(features.dims()[0] * classes);
        for start in (0..features.dims()[0]).step_by(ROWS) {
            let end = features.dims()[0].min(start + ROWS);
            let some = features.clone().narrow(0, start, end - start);
            let some = some.matmul(weights.clone().transpose()).into_data();
            let some: Vec<f32> = some.try_to_vec().expect("scores are f32");
            let shifted = some.chunks_exact(classes).flat_map(|row| {
                let pairs = row.iter().zip(&self.intercept);
                pairs.map(|(score, shift)| narrow(f64::from(*score) + shift))
            });
            scores.extend(shifted);
        }
        scores
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn accuracy(&self, data: &LabelledFeatures) -> f64 {
        let scores = self.scores(&data.features);
        let rows = scores.chunks_exact(self.intercept.len());
        let is_right = |(row, label): (&[f32], &usize)| {
            let before = &row[..*label];
            let (own, behind) = (row[*label], &row[label + 1..]);
            before.iter().all(|other| *other < own) && behind.iter().all(|other| *other <= own)
        };
        let right = rows
            .zip(&data.labels)
            .filter(|pair| is_right(*pair))
            .count();
        right as f64 / data.labels.len().max(1) as f64
    }

    fn weights_tensor(&self, like: &Tensor<2>) -> Tensor<2> {
        let values: Vec<f32> = self.weights.iter().copied().map(narrow).collect();
        let shape = [self.intercept.len(), self.embed_dim];
        Tensor::from_data(TensorData::new(values, shape), &like.device())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "f32 is what devices compute in"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_precision_loss, reason = "a small number of steps")]
fn strength_at(step: usize) -> f64 {
    10.0_f64.powf(2.0 * SWEEP_RANGE * step as f64 / SWEEP_STEPS as f64 - SWEEP_RANGE)
}

impl LabelledFeatures {
    /// Every fifth image, and the others before it.
    fn split(&self) -> (Self, Self) {
        let pick = |is_validated: bool| {
            let rows: Vec<usize> = (0..self.labels.len())
                .filter(|row| (row % VALIDATED == VALIDATED - 1) == is_validated)
                .collect();
            let indices = rows.iter().map(|row| i64::try_from(*row).unwrap_or(0));
            let indices: Vec<i64> = indices.collect();
            let device = self.features.device();
            let indices = Tensor::<1, burn::tensor::Int>::from_data(&indices[..], &device);
            Self {
                features: self.features.clone().select(0, indices),
                labels: rows.iter().map(|row| self.labels[*row]).collect(),
            }
        };
        (pick(false), pick(true))
    }
}

/// Mean cross-entropy plus half the squared weights times the strength. Parameters are the
/// weights, rows first, and then the intercepts.
struct Objective<'a> {
    data: &'a LabelledFeatures,
    classes: usize,
    strength: f64,
    tolerance: f64,
    memo: Mutex<Memo>,
}

/// The last place, whose gradient is asked for after its value; the best one; and the one
/// where the gradient was small enough.
#[derive(Default)]
struct Memo {
    last: Option<(Vec<f64>, f64, Vec<f64>)>,
    best: Option<(Vec<f64>, f64)>,
    end: Option<(Vec<f64>, f64)>,
}

impl Objective<'_> {
    fn take_result(&self) -> Option<(Vec<f64>, f64)> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.end.take().or(memo.best.take())
    }

    /// Ends the search where the gradient is small enough.
    fn gradient_at(&self, parameters: &[f64]) -> Result<Vec<f64>, Error> {
        let (value, gradient) = self.at(parameters, |value, gradient| (value, gradient.to_vec()));
        if gradient.iter().all(|part| part.abs() <= self.tolerance) {
            let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
            memo.end = Some((parameters.to_vec(), value));
            return Err(Error::msg("the gradient is small enough"));
        }
        Ok(gradient)
    }

    fn at<T>(&self, parameters: &[f64], read: impl Fn(f64, &[f64]) -> T) -> T {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, value, gradient)) = &memo.last
            && known == parameters
        {
            return read(*value, gradient);
        }
        let (value, gradient) = self.evaluate(parameters);
        let outcome = read(value, &gradient);
        if value.is_finite() && memo.best.as_ref().is_none_or(|(_, best)| value < *best) {
            memo.best = Some((parameters.to_vec(), value));
        }
        memo.last = Some((parameters.to_vec(), value, gradient));
        outcome
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn evaluate(&self, parameters: &[f64]) -> (f64, Vec<f64>) {
        let [images, embed_dim] = self.data.features.dims();
        let (weights, intercept) = parameters.split_at(self.classes * embed_dim);
        let device = self.data.features.device();
        let narrowed: Vec<f32> = weights.iter().copied().map(narrow).collect();
        let matrix = TensorData::new(narrowed, [self.classes, embed_dim]);
        let matrix = Tensor::<2>::from_data(matrix, &device).transpose();
        let mut loss = 0.0;
        let mut gradient = vec![0.0; parameters.len()];
        for start in (0..images).step_by(ROWS) {
            let end = images.min(start + ROWS);
            let some = self.data.features.clone().narrow(0, start, end - start);
            let logits = some.clone().matmul(matrix.clone()).into_data();
            let mut rows: Vec<f32> = logits.try_to_vec().expect("logits are f32");
            let losses: Vec<f64> = (rows.par_chunks_exact_mut(self.classes))
                .zip(&self.data.labels[start..end])
                .map(|(row, label)| residuals(row, intercept, *label))
                .collect();
            loss += losses.iter().sum::<f64>();
            for row in rows.chunks_exact(self.classes) {
                let shifts = &mut gradient[self.classes * embed_dim..];
                for (sum, residual) in shifts.iter_mut().zip(row) {
                    *sum += f64::from(*residual);
                }
            }
            let residuals = TensorData::new(rows, [end - start, self.classes]);
            let residuals = Tensor::<2>::from_data(residuals, &device);
            let product = residuals.transpose().matmul(some).into_data();
            let product: Vec<f32> = product.try_to_vec().expect("gradients are f32");
            for (sum, value) in gradient.iter_mut().zip(product) {
                *sum += f64::from(value);
            }
        }
        let images = images as f64;
        for value in &mut gradient {
            *value /= images;
        }
        for (value, weight) in gradient.iter_mut().zip(weights) {
            *value += self.strength * weight;
        }
        let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
        (loss / images + 0.5 * self.strength * squares, gradient)
    }
}

/// Turns a row of logits into probabilities less the truth.
/// - returns the cross-entropy.
fn residuals(row: &mut [f32], intercept: &[f64], label: usize) -> f64 {
    let logits: Vec<f64> = (row.iter().zip(intercept))
        .map(|(logit, shift)| f64::from(*logit) + shift)
        .collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
    let log_sum = most + sum.ln();
    for (class, (value, logit)) in row.iter_mut().zip(&logits).enumerate() {
        let truth = if class == label { 1.0 } else { 0.0 };
        *value = narrow((logit - log_sum).exp() - truth);
    }
    log_sum - logits[label]
}

/// The search takes its problem by value, and the best place is asked for afterwards.
struct Borrowed<'a, 'b>(&'a Objective<'b>);

impl CostFunction for Borrowed<'_, '_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.0.at(parameters, |value, _| value))
    }
}

impl Gradient for Borrowed<'_, '_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, parameters: &Vec<f64>) -> Result<Vec<f64>, Error> {
        self.0.gradient_at(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Three overlapping clouds in the plane.
    fn clouds(images: u16) -> LabelledFeatures {
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
            data,
            classes,
            strength,
            tolerance: 0.0,
            memo: Mutex::default(),
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let data = clouds(30);
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
    fn a_fit_ends_where_nothing_gets_better() {
        let data = clouds(300);
        let search = SolverOptions {
            tolerance: 1e-5,
            ..SolverOptions::default()
        };
        let probe = LinearProbe::fit(&data, 3, 1.0, search, None);
        assert!(probe.converged && probe.iterations > 1);
        let objective = objective(&data, 3, 1.0 / 300.0);
        let (value, gradient) =
            objective.evaluate(&[&probe.weights[..], &probe.intercept].concat());
        assert!((value - probe.objective).abs() < 1e-9);
        assert!(
            gradient.iter().all(|part| part.abs() < 2e-5),
            "{gradient:?}"
        );
        assert!(probe.accuracy(&data) > 0.7);
    }

    /// With two classes, a row of weights and its opposite share what scikit-learn's single
    /// row has: the objective is its own.
    #[test]
    fn two_classes_are_regularised_as_one_row() {
        let mut data = clouds(200);
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
        let data = clouds(120);
        let mut tried = Vec::new();
        let probe = LinearProbe::sweep(&data, 3, SolverOptions::default(), |c, _| tried.push(c));
        // Seven to begin with, and at most two at each of four strides.
        assert!((11..=15).contains(&tried.len()), "{tried:?}");
        assert!((tried[1] / tried[0] - 100.0).abs() < 1e-6);
        assert!(tried.contains(&probe.c));
        assert_eq!(data.split().1.labels.len(), 24);
    }
}
