//! Which forward pass of training is running.

/// Identifies a forward pass of training. Every random draw is a pure function of it, so a pass
/// that is repeated draws the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardContext {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step, from 0.
    pub step: u64,
    /// Index of this pass's first image in the step's batch.
    pub first_row: u64,
}
