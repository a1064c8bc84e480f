//! Linear probe: logistic regression on frozen features, fitted with L-BFGS.
//!
//! Source: Radford et al. 2021, section 3.2 and appendix A.3; the objective is that of scikit-learn's
//! `LogisticRegression(C=…)`.

mod objective;

use argmin::core::{Executor, State, TerminationReason, TerminationStatus};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use burn::tensor::{Tensor, TensorData};
use couplet_kernels::matmul;

use objective::{Borrowed, Objective, Point, ROWS, to_f32};

/// The number of past steps from which L-BFGS estimates the curvature, as in SciPy.
const MEMORY: usize = 10;
/// Line search conditions, as in SciPy.
const DECREASE: f64 = 1e-3;
const CURVATURE: f64 = 0.9;
const WIDTH: f64 = 0.1;
/// The search ends if the objective decreases by less. Source: `ftol` of scikit-learn's
/// `LogisticRegression`, relative to values of at most 1.
const SMALLEST_DECREASE: f64 = 64.0 * f64::EPSILON;
/// Features with larger values are divided by a power of two, so that products of theirs stay far below
/// the range of f32.
const LARGE: f32 = 1024.0;
/// The paper's sweep: 96 steps from 1e-6 to 1e6.
const SWEEP_STEPS: usize = 96;
const SWEEP_RANGE: f64 = 6.0;
/// The sweep starts with every sixteenth step.
const FIRST_STRIDE: usize = 16;
/// Every fifth image is used for validation in the sweep.
pub(crate) const VALIDATED: usize = 5;

/// Features `[images, embed_dim]`, with a class for each image.
#[derive(Debug, Clone)]
pub struct LabelledFeatures {
    pub features: Tensor<2>,
    pub labels: Vec<usize>,
}

/// A fitted classifier: the scores of the classes are `features · weightsᵀ + intercept`.
#[derive(Debug, Clone)]
pub struct LinearProbe {
    /// `[classes, embed_dim]`, row-major.
    pub weights: Vec<f64>,
    pub intercept: Vec<f64>,
    pub embed_dim: usize,
    /// The inverse strength of the regularization.
    pub c: f64,
    /// The minimum found: mean loss plus regularization, which is scikit-learn's objective divided
    /// by the number of images.
    pub objective: f64,
    /// The largest component of the gradient at that point.
    pub gradient: f64,
    pub iterations: u64,
    pub ending: Ending,
}

/// Why a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The gradient is small enough, or the objective no longer decreases.
    Converged,
    MaxIterations,
    /// The line search found no better point: the gradient is too inaccurate, or too large.
    Stalled,
}

/// When L-BFGS stops.
#[derive(Debug, Clone, Copy)]
pub struct SolverOptions {
    pub max_iterations: u64,
    /// The fit ends when no component of the gradient is larger, as with scikit-learn's `tol`.
    pub tolerance: f64,
}

impl Default for SolverOptions {
    /// scikit-learn's tolerance, and enough iterations to reach it.
    fn default() -> Self {
        Self {
            max_iterations: 1000,
            tolerance: 1e-4,
        }
    }
}

impl LinearProbe {
    /// Fits multinomial logistic regression with an unregularized intercept. With two classes, the
    /// weights are regularized as the single row of weights that scikit-learn has.
    /// - start: the initial weights, zeros by default.
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
        // The search sees features divided by `scale` and weights multiplied by it.
        let scale = scale_of(&data.features);
        let features = scaled(&data.features, scale);
        let scale = f64::from(scale);
        let objective = Objective::new(
            &features,
            &data.labels,
            classes,
            strength / (scale * scale),
            [search.tolerance / scale, search.tolerance],
        );
        let zeros = vec![0.0; classes * (embed_dim + 1)];
        let start = start.map_or(zeros, |start| {
            let weights = start.weights.iter().map(|weight| weight * scale);
            weights.chain(start.intercept.iter().copied()).collect()
        });
        let line_search = MoreThuenteLineSearch::new()
            .with_c(DECREASE, CURVATURE)
            .and_then(|line_search| line_search.with_width_tolerance(WIDTH))
            .expect("the conditions are valid");
        // The objective ends the search, because its criterion is SciPy's.
        let solver = LBFGS::new(line_search, MEMORY)
            .with_tolerance_grad(0.0)
            .and_then(|solver| solver.with_tolerance_cost(SMALLEST_DECREASE))
            .expect("the tolerances are not negative");
        let run = Executor::new(Borrowed(&objective), solver)
            .configure(|state| state.param(start.clone()).max_iters(search.max_iterations))
            .timer(false)
            .run();
        // An error means that the objective ended the search at the very first step.
        let (iterations, ending) = run.map_or((0, Ending::Stalled), |run| {
            let ending = match run.state().get_termination_status() {
                TerminationStatus::Terminated(TerminationReason::MaxItersReached) => {
                    Ending::MaxIterations
                }
                TerminationStatus::Terminated(TerminationReason::SolverConverged) => {
                    Ending::Converged
                }
                _ => Ending::Stalled,
            };
            (run.state().get_iter(), ending)
        });
        let (found, is_end) = objective.take_result();
        let Point {
            mut parameters,
            value,
            gradient,
        } = found.unwrap_or_else(|| objective.point(&start));
        let slopes = gradient.iter().enumerate().map(|(at, slope)| {
            let is_weight = at < classes * embed_dim;
            slope.abs() * if is_weight { scale } else { 1.0 }
        });
        let gradient = slopes.fold(0.0, f64::max);
        let intercept = parameters.split_off(classes * embed_dim);
        Self {
            weights: parameters.iter().map(|weight| weight / scale).collect(),
            intercept,
            embed_dim,
            c,
            objective: value,
            gradient,
            iterations,
            ending: if is_end { Ending::Converged } else { ending },
        }
    }

    /// Chooses the regularization by validation on every fifth image, then fits to all images. This
    /// is the paper's sweep over 96 steps from 1e-6 to 1e6: first every sixteenth step, then with
    /// smaller and smaller strides around the best one.
    /// - progress: called with each value of `c` and its accuracy on the validation images.
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
                // Starts from the fit with the nearest regularization.
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
            let (at, _, probe) = best.expect("the sweep starts with several steps");
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

    /// The scores of all images, `[images][classes]`, row-major.
    ///
    /// # Panics
    /// If the device fails.
    pub fn scores(&self, features: &Tensor<2>) -> Vec<f32> {
        let scale = scale_of(features);
        let features = scaled(features, scale);
        let weights = self.weights_tensor(&features, f64::from(scale));
        let classes = self.intercept.len();
        let mut scores = Vec::with_capacity(features.dims()[0] * classes);
        for start in (0..features.dims()[0]).step_by(ROWS) {
            let end = features.dims()[0].min(start + ROWS);
            let some = features.clone().narrow(0, start, end - start);
            let some = matmul(some, weights.clone().transpose()).into_data();
            let some: Vec<f32> = some.try_to_vec().expect("scores are f32");
            let shifted = some.chunks_exact(classes).flat_map(|row| {
                let pairs = row.iter().zip(&self.intercept);
                pairs.map(|(score, shift)| to_f32(f64::from(*score) + shift))
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
            let (own, after) = (row[*label], &row[label + 1..]);
            before.iter().all(|other| *other < own) && after.iter().all(|other| *other <= own)
        };
        let right = rows
            .zip(&data.labels)
            .filter(|pair| is_right(*pair))
            .count();
        right as f64 / data.labels.len().max(1) as f64
    }

    /// - scale: the weights are multiplied by it.
    fn weights_tensor(&self, like: &Tensor<2>, scale: f64) -> Tensor<2> {
        let weights = self.weights.iter().map(|weight| weight * scale);
        let values: Vec<f32> = weights.map(to_f32).collect();
        let shape = [self.intercept.len(), self.embed_dim];
        Tensor::from_data(TensorData::new(values, shape), &like.device())
    }
}

/// A power of two, so that dividing by it rounds nothing: 1 unless values of the features are large.
fn scale_of(features: &Tensor<2>) -> f32 {
    let largest: f32 = features.clone().abs().max().into_scalar();
    if largest > LARGE && largest.is_finite() {
        largest.log2().floor().min(f32::from(i8::MAX)).exp2()
    } else {
        1.0
    }
}

fn scaled(features: &Tensor<2>, scale: f32) -> Tensor<2> {
    #[expect(clippy::float_cmp, reason = "the constant that means no scale")]
    if scale == 1.0 {
        return features.clone();
    }
    features.clone().div_scalar(scale)
}

#[expect(clippy::cast_precision_loss, reason = "a small number of steps")]
fn strength_at(step: usize) -> f64 {
    10.0_f64.powf(2.0 * SWEEP_RANGE * step as f64 / SWEEP_STEPS as f64 - SWEEP_RANGE)
}

impl LabelledFeatures {
    /// The training images, and every fifth image for validation.
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
