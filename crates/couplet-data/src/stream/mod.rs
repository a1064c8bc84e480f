//! Samples of shards that are read from front to back, in a random order that is a pure function of
//! (seed, epoch, list of shards).
//!
//! A pass takes the shards in random order, a few at a time, alternating between their samples. The
//! resulting sequence is cut into blocks, and each block is permuted. A place in the epoch can thus be
//! found again from the start of its block, by reading one block at most.
//!
//! Each part of a batch has its own shards of every pass, and its own sequence, blocks and position. With
//! one part, an epoch as long as a pass has every sample once; with several, a part whose shards are
//! through goes on with its shards of the next pass.

mod blocks;
mod walk;

pub(crate) use blocks::{BlockShuffle, NoSamples, StreamOrder};
pub(crate) use walk::{ShardOrder, Walk};

use serde::{Deserialize, Serialize};

use crate::formats::Lost;
use crate::listing::ListedFile;
use crate::sample::{Sample, SampleError};

/// Samples that are permuted together by default (`shuffle_buffer`); two such blocks are in memory at
/// once.
pub const DEFAULT_SHUFFLE_BUFFER: usize = 2048;

/// A dataset whose samples are read from front to back, shard by shard.
pub trait ShardedDataset: Send + Sync {
    /// The number of shards.
    fn len(&self) -> usize;

    /// Whether there are no shards.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of samples in all shards, if it is known without reading them.
    fn samples(&self) -> Option<usize>;

    /// The number of samples that are permuted together, of all parts of a batch.
    fn shuffle_buffer(&self) -> usize;

    /// How often a shard comes in one pass; the fractional part is drawn in each pass.
    fn weight(&self, _shard: usize) -> f64 {
        1.0
    }

    /// The shard's name: a path, and if the shard is a part of the file, which part.
    fn name(&self, shard: usize) -> String;

    /// The shards' files, named by their whole paths, with what is known of them.
    fn listing(&self) -> Vec<ListedFile>;

    /// Reads a shard's samples in order. Damage is given as an error.
    /// - from: 0, or the [`StreamSample::next`] of an earlier sample.
    /// - give: receives a sample; returns `false` to stop.
    fn read(&self, shard: usize, from: u64, epoch: u64, give: &mut dyn FnMut(StreamSample) -> bool);
}

/// A sample of a shard, or the error of reading it.
#[derive(Debug)]
pub struct StreamSample {
    /// The sample's key in the shard.
    pub key: String,
    pub sample: Result<Sample, SampleError>,
    /// Where the shard's next sample begins.
    pub next: u64,
    /// Set if an error loses more than one sample, and their number is not known.
    pub lost: Option<Lost>,
}

/// Where a block begins: everything that a stream needs to resume from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamState {
    /// Samples of the part's epoch before the block, including unusable ones.
    pub place: usize,
    /// Complete passes before the block, each over all shards of the part.
    pub pass: u64,
    /// The number of the part's shards of this pass that have been opened.
    pub begun: usize,
    /// Those of them that are being read.
    pub lanes: Vec<ShardState>,
    /// The lane that gives the next sample.
    pub turn: usize,
    /// The number of shards of this epoch that were read to the end without damage.
    #[serde(default)]
    pub whole: usize,
    /// The number of samples in those shards.
    #[serde(default)]
    pub whole_samples: usize,
}

/// A shard that is being read, and where its next sample begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardState {
    pub shard: usize,
    pub from: u64,
    /// The number of samples that it has given.
    #[serde(default)]
    pub given: usize,
    /// Whether a part of it was lost.
    #[serde(default)]
    pub damaged: bool,
}

#[cfg(test)]
mod tests;
