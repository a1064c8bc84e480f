//! The function that L-BFGS minimizes: scikit-learn's objective, divided by the number of images.

use std::sync::{Mutex, PoisonError};

use argmin::core::{CostFunction, Error, Gradient};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Rows whose logits are in memory at once.
pub(super) const ROWS: usize = 4096;

/// Mean cross-entropy plus `strength` times half the squared weights. The parameters are the weights,
/// row-major, followed by the intercepts.
pub(super) struct Objective<'a> {
    /// `[images, embed_dim]`
    pub features: &'a Tensor<2>,
    /// The class of each image.
    pub labels: &'a [usize],
    pub classes: usize,
    pub strength: f64,
    pub tolerance: f64,
    pub memo: Mutex<Memo>,
}

/// The last point that was evaluated, because its gradient is asked for after its value; the best
/// point; and the point at which the gradient was small enough.
#[derive(Default)]
pub(super) struct Memo {
    last: Option<(Vec<f64>, f64, Vec<f64>)>,
    best: Option<(Vec<f64>, f64)>,
    end: Option<(Vec<f64>, f64)>,
}

impl Objective<'_> {
    pub(super) fn take_result(&self) -> Option<(Vec<f64>, f64)> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.end.take().or(memo.best.take())
    }

    /// Ends the search if the gradient is small enough.
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
            let logits = some.clone().matmul(matrix.clone()).into_data();
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
