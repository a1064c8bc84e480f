//! Evaluation metrics against the values of scikit-learn and CLIP_benchmark, and preprocessing and
//! tokens against those of transformers and open_clip, as written by the scripts in `tests/fixtures/`.

mod classification;
mod few_shot;
mod linear_probe;
mod neighbours;
mod odd_features;
mod processors;
mod retrieval;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

/// `clip_benchmark` computes in `f32`.
const SINGLE_PRECISION: f64 = 1e-6;
/// NumPy and this crate compute a metric from counts in `f64`.
const DOUBLE_PRECISION: f64 = 1e-12;

/// A metric's value by CLIP_benchmark, and for three ways of ordering equal scores.
#[derive(Debug, Deserialize)]
struct Expected {
    metric: String,
    /// `None` if CLIP_benchmark does not have the metric.
    clip_benchmark: Option<f64>,
    /// Equal scores are ordered by index.
    first_index: f64,
    /// The right answer comes after all candidates with the same score.
    pessimistic: f64,
    /// The right answer comes before all candidates with the same score.
    optimistic: f64,
}

impl Expected {
    /// `torch.topk` and `torch.sort` do not specify the order of equal scores. Where the order
    /// makes no difference, the value must be CLIP_benchmark's; otherwise it must be that of
    /// ordering by index, within the bounds over all orders.
    /// - ours: this crate's value of the metric.
    /// - reference: CLIP_benchmark's value, over the same queries.
    fn check(&self, ours: f64, reference: Option<f64>) {
        let close = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance;
        assert!(
            close(ours, self.first_index, DOUBLE_PRECISION),
            "{ours} for {self:?}"
        );
        // For a median rank, the pessimistic value is the larger one.
        let low = self.pessimistic.min(self.optimistic);
        let high = self.pessimistic.max(self.optimistic);
        let bounds = low - DOUBLE_PRECISION..=high + DOUBLE_PRECISION;
        assert!(bounds.contains(&ours), "{ours} for {self:?}");
        if let Some(reference) = reference
            && close(low, high, DOUBLE_PRECISION)
        {
            assert!(
                close(ours, reference, SINGLE_PRECISION),
                "{ours}, not {reference}, for {self:?}"
            );
        }
    }

    fn is_tied(&self) -> bool {
        self.pessimistic < self.optimistic || self.optimistic < self.pessimistic
    }
}

/// Features that are stored in a fixture as integers, divided by `unit`.
fn features(rows: &[Vec<f32>], unit: f32) -> Tensor<2> {
    let shape = [rows.len(), rows[0].len()];
    let data = TensorData::new(rows.concat(), shape);
    Tensor::from_data(data, &Device::flex()) / unit
}
