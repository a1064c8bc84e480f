//! Contrastive losses: pure functions of feature matrices, never of a model.
//!
//! A loss is a [`PairLoss`]. Those that configs name are [`Loss`]; any other is given to a run by value.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use couplet_loss::{Features, PairLoss, SoftmaxLoss};
//!
//! let device = Device::flex();
//! let same = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0]], &device); // [batch, embed_dim], L2-normalised
//! let features = Features {
//!     image: same.clone(),
//!     text: same,
//!     logit_scale: Tensor::from_floats([100f32.ln()], &device),
//!     logit_bias: None,
//! };
//! let loss = SoftmaxLoss::default().forward(features); // [1]
//! assert!(loss.into_scalar::<f32>() < 1e-6);
//! ```

mod classes;
mod config;
mod contrastive;
mod factors;
mod features;
mod formulas;
mod pair_loss;

pub use classes::{LogitGradients, class_cross_entropy};
pub use config::{CustomLoss, Loss, SigmoidLoss, SoftmaxLoss};
pub use contrastive::{pairwise_sigmoid, symmetric_info_nce};
pub use features::{FeatureGradients, Features};
pub use pair_loss::{LocalGradients, PairLoss, default_chunk, gradients, parts};

#[cfg(test)]
mod tests;
