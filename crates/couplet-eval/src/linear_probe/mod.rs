//! Logistic regression on frozen features, fitted by L-BFGS.
//!
//! Source: Radford et al. 2021, section 3.2 and appendix A.3; the objective is that of
//! scikit-learn's `LogisticRegression(C=…)`.

mod objective;

use std::sync::Mutex;

use argmin::core::{Executor, State, TerminationReason, TerminationStatus};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use burn::tensor::{Tensor, TensorData};

use objective::{Borrowed, Objective, ROWS, narrow};

/// Steps whose curvature L-BFGS remembers, as SciPy does.
const MEMORY: usize = 10;
/// The line search's conditions, as SciPy's.
const DECREASE: f64 = 1e-3;
const CURVATURE: f64 = 0.9;
const WIDTH: f64 = 0.1;
/// The paper's sweep: from 1e-6 to 1e6 with this many steps.
const SWEEP_STEPS: usize = 96;
const SWEEP_RANGE: f64 = 6.0;
/// The sweep begins with every sixteenth of them.
const FIRST_STRIDE: usize = 16;
/// Every fifth image validates the sweep.
const VALIDATED: usize = 5;

/// Features `[images, embed_dim]`, and a class for each.
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
            features: &data.features,
            labels: &data.labels,
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
    /// - progress: called with each strength and its accuracy on the validation images.
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

#[cfg(test)]
mod tests;
