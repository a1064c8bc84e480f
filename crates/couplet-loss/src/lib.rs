//! Contrastive losses: pure functions of feature matrices, never of a model.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// The `[loss]` table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Loss {
    /// Symmetric InfoNCE over the batch.
    Softmax(SoftmaxLoss),
    /// Each pair by itself, matching or not: SigLIP's. The model needs a `logit_bias`.
    Sigmoid(SigmoidLoss),
}

/// Symmetric InfoNCE has no settings of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxLoss {}

/// The pairwise sigmoid loss has no settings of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigmoidLoss {}

impl Default for Loss {
    fn default() -> Self {
        Self::Softmax(SoftmaxLoss {})
    }
}

impl Loss {
    /// The loss of a batch of matching rows, `[1]`.
    /// - image_features, text_features: `[batch, embed_dim]`, L2-normalised.
    /// - logit_scale: `[1]`, the log of the factor on cosine similarities.
    /// - logit_bias: `[1]`, added to the scaled similarities; 0 without one.
    pub fn forward(
        &self,
        image_features: Tensor<2>,
        text_features: Tensor<2>,
        logit_scale: Tensor<1>,
        logit_bias: Option<Tensor<1>>,
    ) -> Tensor<1> {
        match self {
            // A bias that all logits share cancels in a softmax.
            Self::Softmax(_) => symmetric_info_nce(image_features, text_features, logit_scale),
            Self::Sigmoid(_) => {
                pairwise_sigmoid(image_features, text_features, logit_scale, logit_bias)
            }
        }
    }

    /// Whether the loss needs a model with a `logit_bias`.
    pub fn needs_bias(&self) -> bool {
        matches!(self, Self::Sigmoid(_))
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

/// The sum over all pairs of `-ln σ(±logit)`, divided by the batch: plus where image and
/// text match, minus elsewhere.
/// - image_features, text_features: `[batch, embed_dim]`, L2-normalised.
/// - logit_scale: `[1]`, as its log; logit_bias: `[1]`.
/// - returns `[1]`.
///
/// Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training"; open_clip
/// `SigLipLoss`.
pub fn pairwise_sigmoid(
    image_features: Tensor<2>,
    text_features: Tensor<2>,
    logit_scale: Tensor<1>,
    logit_bias: Option<Tensor<1>>,
) -> Tensor<1> {
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
    let batch = image_features.dims()[0] as f32;
    let scaled_images = image_features * logit_scale.exp().unsqueeze();
    let matching = (scaled_images.clone() * text_features.clone()).sum_dim(1);
    let mut logits = scaled_images.matmul(text_features.transpose());
    // -ln σ(x) = softplus(x) - x and -ln σ(-x) = softplus(x): the matching logits are
    // all that a mask would have picked out.
    let mut matching = matching.sum();
    if let Some(bias) = logit_bias {
        logits = logits + bias.clone().unsqueeze();
        matching = matching + bias.mul_scalar(batch);
    }
    (activation::softplus(logits, 1.0).sum() - matching).div_scalar(batch)
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
        let loss = scalar(Loss::default().forward(images, texts, scale, None));
        assert!(
            (loss - f32::midpoint(per_image, per_text)).abs() < 1e-6,
            "{loss}"
        );
    }

    #[test]
    fn every_pair_counts_by_itself_in_the_sigmoid_loss() {
        let device = Device::flex();
        let images = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let texts = Tensor::<2>::from_floats([[0.6, 0.8], [0.0, 1.0]], &device);
        // With scale 2 and bias -1 the logits are [[0.2, -1.0], [0.6, 1.0]].
        let nll = |signed: f32| (1.0 + (-signed).exp()).ln();
        let expected = (nll(0.2) + nll(1.0) + nll(-0.6) + nll(1.0)) / 2.0;
        let scale = Tensor::from_floats([2f32.ln()], &device);
        let bias = Tensor::from_floats([-1.0], &device);
        let kind = Loss::Sigmoid(SigmoidLoss {});
        let loss = scalar(kind.forward(images, texts, scale, Some(bias)));
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
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
