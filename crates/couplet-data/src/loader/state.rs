//! What resuming a loader needs.

use serde::{Deserialize, Serialize};

use crate::stream::StreamState;

/// A position between two batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Batches of this epoch before the position.
    pub batches: usize,
    /// Samples of this epoch's order before the position, including skipped ones.
    pub samples: usize,
    /// How many of those were skipped.
    pub skipped: usize,
    /// Estimated number of samples lost to damaged shards, in addition to those.
    #[serde(default)]
    pub lost: usize,
    /// For a stream: where to find its next sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamState>,
}

impl LoaderState {
    /// The position of all ranks, from theirs in the order of ranks.
    #[must_use]
    pub fn merge(ranks: Vec<Self>) -> Self {
        ranks.into_iter().next().unwrap_or_default()
    }
}
