//! The loss of a classifier.

use burn::tensor::{Int, Tensor, activation};

use crate::features::size;

/// A classifier's loss and its gradient, without a graph.
#[derive(Debug, Clone)]
pub struct LogitGradients {
    /// `[1]`
    pub loss: Tensor<1>,
    /// `[rows, classes]`
    pub logits: Tensor<2>,
}

/// The cross-entropy of some rows of a batch, divided by the size of the whole batch.
/// - logits: `[rows, classes]`, without a graph; labels: `[rows]`.
/// - label_smoothing: the share of each target that is spread evenly over all classes.
///
/// Source: `torch.nn.functional.cross_entropy`.
pub fn class_cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    label_smoothing: f32,
    batch: usize,
) -> LogitGradients {
    let classes = logits.dims()[1];
    let targets = labels.one_hot::<2>(classes).float();
    let targets = targets
        .mul_scalar(1.0 - label_smoothing)
        .add_scalar(label_smoothing / size(classes));
    let log_shares = activation::log_softmax(logits, 1);
    let loss = (targets.clone() * log_shares.clone()).sum();
    LogitGradients {
        loss: loss.div_scalar(-size(batch)),
        logits: (log_shares.exp() - targets).div_scalar(size(batch)),
    }
}
