//! What a loss reads, and what comes back of it.

use burn::tensor::Tensor;

/// The inputs of a loss: features whose rows match, and how similarities become logits.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[batch, embed_dim]`, L2-normalised.
    pub image: Tensor<2>,
    /// `[batch, embed_dim]`, L2-normalised.
    pub text: Tensor<2>,
    /// `[1]`, the log of the factor on cosine similarities.
    pub logit_scale: Tensor<1>,
    /// `[1]`, added to the scaled similarities; 0 without one.
    pub logit_bias: Option<Tensor<1>>,
}

/// A loss and its gradients with respect to its inputs, without a graph.
#[derive(Debug, Clone)]
pub struct FeatureGradients {
    /// `[1]`
    pub loss: Tensor<1>,
    /// Shapes as in [`Features`]; with [`LocalGradients`](crate::LocalGradients), of some pairs only.
    pub image: Tensor<2>,
    pub text: Tensor<2>,
    pub logit_scale: Tensor<1>,
    pub logit_bias: Option<Tensor<1>>,
}

impl Features {
    /// All rows of the batch.
    pub fn rows(&self) -> std::ops::Range<usize> {
        0..self.image.dims()[0]
    }
}

impl FeatureGradients {
    /// The sum of two parts of one batch.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            image: self.image + other.image,
            text: self.text + other.text,
            logit_scale: self.logit_scale + other.logit_scale,
            logit_bias: (self.logit_bias.zip(other.logit_bias)).map(|(a, b)| a + b),
        }
    }
}

/// A number of rows as a factor.
#[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
pub(crate) fn size(rows: usize) -> f32 {
    rows as f32
}
