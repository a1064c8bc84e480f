//! The function that L-BFGS minimizes: scikit-learn's objective, divided by the number of images.

use std::sync::{Mutex, PoisonError};

use argmin::core::{CostFunction, Error, Gradient};
use burn::tensor::{Tensor, TensorData};
use couplet_kernels::matmul;
use rayon::prelude::*;

/// Rows whose logits are in memory at once.
pub(super) const ROWS: usize = 4096;
/// The search ends after this many evaluations without a lower value or a smaller gradient. Source:
/// scikit-learn's `maxls`.
const MAX_WITHOUT_BETTER: usize = 50;
/// The search ends after this many evaluations. Source: SciPy's `maxfun`.
const MAX_EVALUATIONS: usize = 15_000;

/// Mean cross-entropy plus `strength` times half the squared weights. The parameters are the weights,
/// row-major, followed by the intercepts.
pub(super) struct Objective<'a> {
    /// `[images, embed_dim]`
    pub features: &'a Tensor<2>,
    /// The class of each image.
    pub labels: &'a [usize],
    pub classes: usize,
    pub strength: f64,
    /// The search ends when no component of the gradient is larger: by the weights, and by the intercepts.
    tolerances: [f64; 2],
    memo: Mutex<Memo>,
}

/// A point that was evaluated.
#[derive(Clone)]
pub(super) struct Point {
    pub parameters: Vec<f64>,
    pub value: f64,
    pub gradient: Vec<f64>,
}

/// The last point that was evaluated, because its gradient is asked for after its value; the best
/// point; and the point at which the gradient was small enough.
#[derive(Default)]
struct Memo {
    last: Option<Point>,
    best: Option<Point>,
    end: Option<Point>,
    evaluations: usize,
    /// The smallest gradient so far, by its largest component.
    smallest: Option<f64>,
    /// Evaluations since a value or a gradient was the best.
    without_better: usize,
}

impl<'a> Objective<'a> {
    pub(super) fn new(
        features: &'a Tensor<2>,
        labels: &'a [usize],
        classes: usize,
        strength: f64,
        tolerances: [f64; 2],
    ) -> Self {
        Self {
            features,
            labels,
            classes,
            strength,
            tolerances,
            memo: Mutex::default(),
        }
    }

    /// The point at which the search ended, else the best one; and whether the search ended there.
    pub(super) fn take_result(&self) -> (Option<Point>, bool) {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        let end = memo.end.take();
        let is_end = end.is_some();
        (end.or(memo.best.take()), is_end)
    }

    pub(super) fn point(&self, parameters: &[f64]) -> Point {
        let (value, gradient) = self.evaluate(parameters);
        Point {
            parameters: parameters.to_vec(),
            value,
            gradient,
        }
    }

    /// Ends the search if the gradient is small enough.
    fn gradient_at(&self, parameters: &[f64]) -> Result<Vec<f64>, Error> {
        let point = self.at(parameters)?;
        let weights = self.classes * self.features.dims()[1];
        let (of_weights, of_intercepts) = point.gradient.split_at(weights);
        let is_small = |slopes: &[f64], most: f64| slopes.iter().all(|slope| slope.abs() <= most);
        if is_small(of_weights, self.tolerances[0]) && is_small(of_intercepts, self.tolerances[1]) {
            let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
            memo.end = Some(point);
            return Err(Error::msg("the gradient is small enough"));
        }
        Ok(point.gradient)
    }

    /// Ends the search at a value that is not finite, which a line search never leaves, and after too
    /// many evaluations.
    fn at(&self, parameters: &[f64]) -> Result<Point, Error> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &memo.last
            && known.parameters == parameters
        {
            return Ok(known.clone());
        }
        memo.evaluations += 1;
        memo.without_better += 1;
        if memo.evaluations > MAX_EVALUATIONS || memo.without_better > MAX_WITHOUT_BETTER {
            return Err(Error::msg("no better point is found"));
        }
        let point = self.point(parameters);
        if !point.value.is_finite() || !point.gradient.iter().all(|slope| slope.is_finite()) {
            return Err(Error::msg("the objective is not finite"));
        }
        if memo
            .best
            .as_ref()
            .is_none_or(|best| point.value < best.value)
        {
            memo.best = Some(point.clone());
            memo.without_better = 0;
        }
        // Near the optimum, values differ by less than their rounding.
        let slopes = point.gradient.iter().map(|slope| slope.abs());
        let steepest = slopes.fold(0.0, f64::max);
        if memo.smallest.is_none_or(|smallest| steepest < smallest) {
            memo.smallest = Some(steepest);
            memo.without_better = 0;
        }
        memo.last = Some(point.clone());
        Ok(point)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn evaluate(&self, parameters: &[f64]) -> (f64, Vec<f64>) {
        let [images, embed_dim] = self.features.dims();
        let (weights, intercept) = parameters.split_at(self.classes * embed_dim);
        let device = self.features.device();
        let narrowed: Vec<f32> = weights.iter().copied().map(to_f32).collect();
        let matrix = TensorData::new(narrowed, [self.classes, embed_dim]);
        let matrix = Tensor::<2>::from_data(matrix, &device).transpose();
        let mut loss = 0.0;
        let mut gradient = vec![0.0; parameters.len()];
        for start in (0..images).step_by(ROWS) {
            let end = images.min(start + ROWS);
            let some = self.features.clone().narrow(0, start, end - start);
            let logits = matmul(some.clone(), matrix.clone()).into_data();
            let mut rows: Vec<f32> = logits.try_to_vec().expect("logits are f32");
            let losses: Vec<f64> = (rows.par_chunks_exact_mut(self.classes))
                .zip(&self.labels[start..end])
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
            let product = matmul(residuals.transpose(), some).into_data();
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

#[expect(
    clippy::cast_possible_truncation,
    reason = "f32 is what devices compute in"
)]
pub(super) fn to_f32(value: f64) -> f32 {
    value as f32
}

/// Replaces a row of logits by the probabilities minus the one-hot target.
/// - returns the cross-entropy.
fn residuals(row: &mut [f32], intercept: &[f64], label: usize) -> f64 {
    let logits: Vec<f64> = (row.iter().zip(intercept))
        .map(|(logit, shift)| f64::from(*logit) + shift)
        .collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
    let log_sum = most + sum.ln();
    for (class, (value, logit)) in row.iter_mut().zip(&logits).enumerate() {
        let target = if class == label { 1.0 } else { 0.0 };
        *value = to_f32((logit - log_sum).exp() - target);
    }
    log_sum - logits[label]
}

/// The solver takes its problem by value, but the best point is read after the search.
pub(super) struct Borrowed<'a, 'b>(pub &'a Objective<'b>);

impl CostFunction for Borrowed<'_, '_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.0.at(parameters)?.value)
    }
}

impl Gradient for Borrowed<'_, '_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, parameters: &Vec<f64>) -> Result<Vec<f64>, Error> {
        self.0.gradient_at(parameters)
    }
}
