//! Samples of shards that are read from front to back, in a random order that is a pure
//! function of (seed, epoch, list of shards).
//!
//! A pass takes the shards in random order, a few at once, one sample of each in turn.
//! What so comes is cut into blocks, and each block is permuted. So a place in the epoch
//! is found again from where its block began: by reading one block at most.

mod blocks;
mod walk;

pub(crate) use blocks::{BlockShuffle, NoSamples};
pub(crate) use walk::{ShardOrder, Walk};

use serde::{Deserialize, Serialize};

use crate::formats::Lost;
use crate::sample::{Sample, SampleError};

/// Samples that are permuted together unless `shuffle_buffer` says otherwise: two such
/// blocks are in memory at once.
pub const DEFAULT_SHUFFLE_BUFFER: usize = 2048;

/// A set whose samples are read from front to back, shard by shard.
pub trait ShardedDataset: Send + Sync {
    /// How many shards there are.
    fn len(&self) -> usize;

    /// Whether there is no shard.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Samples of all shards, where that is known without reading them.
    fn samples(&self) -> Option<usize>;

    /// How many samples are permuted together.
    fn shuffle_buffer(&self) -> usize;

    /// How often a shard comes in one pass: the fraction is drawn in each.
    fn weight(&self, _shard: usize) -> f64 {
        1.0
    }

    /// What a shard is called: a path, with the part of it that the shard is.
    fn name(&self, shard: usize) -> String;

    /// Reads a shard's samples in their order. Whatever is damaged is given as a fault.
    /// - from: 0, or what [`StreamSample::next`] said.
    /// - give: takes a sample; `false` ends the reading.
    fn read(&self, shard: usize, from: u64, epoch: u64, give: &mut dyn FnMut(StreamSample) -> bool);
}

/// A sample, or why there is none, as it comes out of a shard.
#[derive(Debug)]
pub struct StreamSample {
    /// The sample's key inside the shard.
    pub key: String,
    pub sample: Result<Sample, SampleError>,
    /// Where the shard's next sample begins.
    pub next: u64,
    /// Where a fault costs more than a sample, and nobody can say how many.
    pub lost: Option<Lost>,
}

/// Where a block begins: all that a stream needs to go on from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamState {
    /// Samples of the epoch before it, of all ranks, unusable ones included.
    pub place: usize,
    /// Times that all shards lie behind.
    pub pass: u64,
    /// Shards of this pass that were begun.
    pub begun: usize,
    /// Those of them that are being read.
    pub lanes: Vec<ShardState>,
    /// The lane whose turn it is.
    pub turn: usize,
    /// Shards of this epoch that were read to their end without damage.
    #[serde(default)]
    pub whole: usize,
    /// The samples that those held.
    #[serde(default)]
    pub whole_samples: usize,
}

/// A shard that is being read, and where its next sample begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardState {
    pub shard: usize,
    pub from: u64,
    /// Samples that it gave.
    #[serde(default)]
    pub given: usize,
    /// Whether part of it was lost.
    #[serde(default)]
    pub damaged: bool,
}

#[cfg(test)]
mod tests;
