//! Contrastive losses: pure functions of feature matrices, never of a model.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The `[loss]` table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Loss {
    /// Symmetric InfoNCE over the batch.
    Softmax(SoftmaxLoss),
}

/// Symmetric InfoNCE has no settings of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxLoss {}

impl Default for Loss {
    fn default() -> Self {
        Self::Softmax(SoftmaxLoss {})
    }
}

impl Loss {
    /// The loss of a batch of matching rows, `[1]`.
    /// - image_features, text_features: `[batch, embed_dim]`, L2-normalised.
    /// - logit_scale: `[1]`, the log of the factor on cosine similarities.
    pub fn forward(
        &self,
        image_features: Tensor<2>,
        text_features: Tensor<2>,
        logit_scale: Tensor<1>,
    ) -> Tensor<1> {
        match self {
            Self::Softmax(_) => symmetric_info_nce(image_features, text_features, logit_scale),
        }
    }
}

/// The mean of both directions' cross-entropies, where row i's class is column i.
/// - image_features, text_features: `[batch, embed_dim]`, L2-normalised.
/// - logit_scale: `[1]`, as its log.
/// - returns `[1]`.
///
/// Source: Radford et al. 2021, figure 3; open_clip `ClipLoss`.
pub fn symmetric_info_nce(
    image_features: Tensor<2>,
    text_features: Tensor<2>,
    logit_scale: Tensor<1>,
) -> Tensor<1> {
    let scaled_images = image_features * logit_scale.exp().unsqueeze();
    let matching = (scaled_images.clone() * text_features.clone()).sum_dim(1);
    let logits_per_image = scaled_images.matmul(text_features.transpose());
    let over_texts = log_sum_exp(logits_per_image.clone(), 1);
    let over_images = log_sum_exp(logits_per_image, 0).transpose();
    ((over_texts + over_images).div_scalar(2.0) - matching).mean()
}

/// `ln(Σ exp(x))` along `dim`, which stays with size 1; safe for large `x`.
fn log_sum_exp(x: Tensor<2>, dim: usize) -> Tensor<2> {
    let max = x.clone().detach().max_dim(dim);
    (x - max.clone()).exp().sum_dim(dim).log() + max
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn scalar(tensor: Tensor<1>) -> f32 {
        tensor.into_scalar()
    }

    #[test]
    fn identical_features_cost_the_log_of_the_batch() {
        let device = Device::flex();
        let features = Tensor::<2>::from_floats([[1.0, 0.0]; 4], &device);
        let scale = Tensor::from_floats([3.0], &device);
        let loss = scalar(symmetric_info_nce(features.clone(), features, scale));
        assert!((loss - 4f32.ln()).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn a_pair_worked_out_by_hand() {
        let device = Device::flex();
        let images = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let texts = Tensor::<2>::from_floats([[0.6, 0.8], [0.0, 1.0]], &device);
        // With scale 2 the logits are [[1.2, 0.0], [1.6, 2.0]].
        let nll = |own: f32, other: f32| (own.exp() + other.exp()).ln() - own;
        let per_image = f32::midpoint(nll(1.2, 0.0), nll(2.0, 1.6));
        let per_text = f32::midpoint(nll(1.2, 1.6), nll(2.0, 0.0));
        let scale = Tensor::from_floats([2f32.ln()], &device);
        let loss = scalar(Loss::default().forward(images, texts, scale));
        assert!(
            (loss - f32::midpoint(per_image, per_text)).abs() < 1e-6,
            "{loss}"
        );
    }

    #[test]
    fn large_scales_stay_finite() {
        let device = Device::flex();
        let images = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &device);
        let scale = Tensor::from_floats([10.0], &device);
        let loss = scalar(symmetric_info_nce(images.clone(), images, scale));
        assert!(loss.abs() < 1e-6, "{loss}");
    }
}
