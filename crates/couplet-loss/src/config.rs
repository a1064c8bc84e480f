//! `[loss]`: which loss a run has.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contrastive::{pairwise_sigmoid, symmetric_info_nce};
use crate::features::Features;
use crate::pair_loss::{LocalGradients, PairLoss};

/// `[loss]`: the loss over the features of the whole batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Loss {
    /// Symmetric InfoNCE over the batch, CLIP's loss.
    Softmax(SoftmaxLoss),
    /// Binary classification of each pair, SigLIP's loss. Needs `model.init_logit_bias`.
    Sigmoid(SigmoidLoss),
    /// A loss that a program gives to the run; only that program trains with it.
    Custom(CustomLoss),
}

/// `kind = "softmax"`: symmetric InfoNCE, CLIP's loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxLoss {
    /// Share of each target that is spread evenly over the whole batch.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub label_smoothing: f32,
}

/// `kind = "sigmoid"`: SigLIP's loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigmoidLoss {}

/// `kind = "custom"`: a loss that a program gives to the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomLoss {
    /// What the program calls the loss.
    #[schemars(extend("examples" = ["triplet"]))]
    pub name: String,
}

impl Default for Loss {
    fn default() -> Self {
        Self::Softmax(SoftmaxLoss::default())
    }
}

impl Loss {
    /// The loss itself; `None` of one that a program gives.
    pub fn built_in(&self) -> Option<Arc<dyn PairLoss>> {
        match self {
            Self::Softmax(softmax) => Some(Arc::new(*softmax)),
            Self::Sigmoid(sigmoid) => Some(Arc::new(*sigmoid)),
            Self::Custom(_) => None,
        }
    }

    /// Whether the loss needs a model with a `logit_bias`.
    pub fn needs_bias(&self) -> bool {
        matches!(self, Self::Sigmoid(_))
    }

    /// Every invalid setting, with its key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Softmax(softmax) if !(0.0..1.0).contains(&softmax.label_smoothing) => {
                let message = format!("{} must be at least 0 and below 1", softmax.label_smoothing);
                vec![("label_smoothing", message)]
            }
            _ => Vec::new(),
        }
    }
}

impl PairLoss for SoftmaxLoss {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn forward(&self, features: Features) -> Tensor<1> {
        symmetric_info_nce(features.rows(), features, self.label_smoothing)
    }

    fn forward_rows(&self, rows: Range<usize>, features: Features) -> Option<Tensor<1>> {
        Some(symmetric_info_nce(rows, features, self.label_smoothing))
    }

    fn local(&self) -> Option<&dyn LocalGradients> {
        Some(self)
    }

    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    fn chance(&self, pairs: usize) -> Option<f64> {
        Some((pairs as f64).ln())
    }
}

impl PairLoss for SigmoidLoss {
    fn name(&self) -> &'static str {
        "sigmoid"
    }

    fn forward(&self, features: Features) -> Tensor<1> {
        pairwise_sigmoid(features.rows(), features)
    }

    fn forward_rows(&self, rows: Range<usize>, features: Features) -> Option<Tensor<1>> {
        Some(pairwise_sigmoid(rows, features))
    }

    fn local(&self) -> Option<&dyn LocalGradients> {
        Some(self)
    }
}
