//! Captions for the text tower.

use burn::tensor::{Int, Tensor};
use couplet_kernels::TokenRuns;

/// Token ids of captions.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// `[batch, tokens]`, start and end tokens included.
    pub ids: Tensor<2, Int>,
    /// Of the same ids, for a backward pass on a GPU.
    pub runs: Option<TokenRuns>,
}

impl From<Tensor<2, Int>> for Tokens {
    fn from(ids: Tensor<2, Int>) -> Self {
        Self { ids, runs: None }
    }
}
