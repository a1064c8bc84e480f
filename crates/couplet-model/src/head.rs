//! A linear classifier on top of an image tower.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Classifies images by their normalised features.
/// Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3.
#[derive(Module, Debug)]
pub struct ClassifierHead {
    /// `[classes, embed_dim]`
    pub(crate) weight: Param<Tensor<2>>,
    /// `[classes]`
    pub(crate) bias: Param<Tensor<1>>,
}

impl ClassifierHead {
    /// - weight: `[classes, embed_dim]`; the bias is 0.
    pub fn new(weight: Tensor<2>) -> Self {
        let bias = Tensor::zeros([weight.dims()[0]], &weight.device());
        Self::from_parts(weight, bias)
    }

    pub(crate) fn from_parts(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        Self {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
        }
    }

    /// - features: `[batch, embed_dim]`, L2-normalised.
    /// - returns logits `[batch, classes]`.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        couplet_kernels::linear(features, self.weight.val(), Some(self.bias.val()))
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.weight.dims()[0]
    }
}
