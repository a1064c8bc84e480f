//! Evaluation's numbers against those of scikit-learn and CLIP_benchmark, which the scripts of
//! `tests/fixtures/` wrote down.

mod classification;
mod linear_probe;
mod neighbours;
mod retrieval;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

/// `clip_benchmark` computes in `f32`.
const SINGLE_PRECISION: f64 = 1e-6;
/// NumPy and this crate compute a metric from counts in `f64`.
const DOUBLE_PRECISION: f64 = 1e-12;

/// One metric by CLIP_benchmark, and by three orders of equal scores.
#[derive(Debug, Deserialize)]
struct Expected {
    metric: String,
    /// `None` where CLIP_benchmark has no such metric.
    clip_benchmark: Option<f64>,
    /// Equal scores in the order of their indices.
    first_index: f64,
    /// What is wanted comes behind all that scores as high.
    pessimistic: f64,
    /// What is wanted comes before all that scores as high.
    optimistic: f64,
}

impl Expected {
    /// `torch.topk` and `torch.sort` do not say which of equal scores comes first. Where that
    /// makes no difference, CLIP_benchmark's value must be met; else this crate promises the
    /// order of indices, and a value within the bounds that hold for any order.
    /// - ours: the metric's value by this crate.
    /// - reference: by CLIP_benchmark, over the same queries.
    fn check(&self, ours: f64, reference: Option<f64>) {
        let close = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance;
        assert!(
            close(ours, self.first_index, DOUBLE_PRECISION),
            "{ours} for {self:?}"
        );
        // Of a median rank the pessimistic value is the larger one.
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

/// Features that a fixture has as integers: all of them divided by `unit`.
fn features(rows: &[Vec<f32>], unit: f32) -> Tensor<2> {
    let shape = [rows.len(), rows[0].len()];
    let data = TensorData::new(rows.concat(), shape);
    Tensor::from_data(data, &Device::flex()) / unit
}
