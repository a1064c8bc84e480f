//! The samples of an epoch, part by part.

use super::error::LoaderError;
use super::options::LoaderOptions;
use super::state::{LoaderState, PartState};
use crate::order::PartOrder;
use crate::source::{Item, PairDataset};
use crate::stream::{BlockShuffle, NoSamples, StreamOrder};

/// The samples of the loader's parts in one epoch, each by its number in the part's order. Parts are counted
/// from the loader's first.
pub(super) struct EpochSamples {
    orders: Vec<PartOrder>,
    source: Source,
}

enum Source {
    /// The epoch of all parts.
    Indices(Vec<usize>),
    /// One sequence for each part.
    Streams(Vec<BlockShuffle>),
}

impl EpochSamples {
    pub fn start(dataset: &PairDataset, options: &LoaderOptions, position: &LoaderState) -> Self {
        let orders = options.part_orders();
        let source = match dataset {
            PairDataset::Indexed(_) => Source::Indices(options.order.epoch(position.epoch)),
            PairDataset::Stream(shards) => {
                let start = |(order, state): (&PartOrder, &PartState)| {
                    let stream = StreamOrder {
                        seed: options.order.seed,
                        resample: options.order.resample,
                        part: *order,
                        own_parts: orders.len(),
                    };
                    let mark = state.stream.clone();
                    BlockShuffle::start(shards.clone(), stream, position.epoch, mark)
                };
                Source::Streams(orders.iter().zip(&position.parts).map(start).collect())
            }
        };
        Self { orders, source }
    }

    /// Moves to the start of another epoch.
    pub fn set_epoch(&mut self, options: &LoaderOptions, epoch: u64) {
        match &mut self.source {
            Source::Indices(all) => *all = options.order.epoch(epoch),
            Source::Streams(streams) => {
                for blocks in streams {
                    blocks.set_epoch(epoch);
                }
            }
        }
    }

    pub fn order(&self, part: usize) -> &PartOrder {
        &self.orders[part]
    }

    /// The part's sample number `at` of the epoch.
    pub fn item(&mut self, part: usize, at: usize) -> Result<Item, LoaderError> {
        match &mut self.source {
            Source::Indices(all) => Ok(Item::Index(all[self.orders[part].index(at)])),
            Source::Streams(streams) => {
                let sample = streams[part].take(at);
                let (shard, sample) = sample.map_err(|NoSamples| LoaderError::NoSamples)?;
                Ok(Item::StreamSample(shard, sample))
            }
        }
    }

    /// Stores in a position where streams find their next samples.
    pub fn mark(&self, position: &mut LoaderState) {
        if let Source::Streams(streams) = &self.source {
            for (part, blocks) in position.parts.iter_mut().zip(streams) {
                part.stream = Some(blocks.mark(part.samples));
            }
        }
    }

    /// Whether all samples of the epoch are bad.
    pub fn has_none_usable(&self, position: &LoaderState) -> bool {
        match &self.source {
            Source::Indices(all) => position.skipped() >= all.len(),
            Source::Streams(_) => false,
        }
    }

    /// The number of samples that a part may take for one batch. After it, none was usable: it has met all
    /// samples of an indexed epoch.
    pub fn most_tries(&self, part: usize, rows: usize) -> usize {
        let PartOrder {
            parts, epoch_len, ..
        } = self.orders[part];
        let rounds = if parts == 1 { 1 } else { 2 };
        epoch_len.saturating_mul(rounds).saturating_add(rows)
    }
}
