//! Blocks of samples, each permuted, read ahead of their consumer.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rand::seq::SliceRandom;

use super::walk::{ShardOrder, Walk};
use super::{ShardedDataset, StreamSample, StreamState};
use crate::draw::{Purpose, stream};
use crate::order::PartOrder;
use crate::sample::ImageData;

/// The blocks of all parts end when their images take this many bytes, however few they are.
const MAX_BLOCK_BYTES: usize = 256 << 20;
/// Samples of the blocks of all parts that only replace unusable samples at the end of an epoch, and at
/// least of each.
const SPARE_BLOCK: usize = 64;
const LEAST_SPARE: usize = 4;
/// Passes without a sample, for each part, after which none is expected. A pass of all shards is enough;
/// a part has only some of them in each.
const EMPTY_PASSES: usize = 16;

/// No shard holds a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSamples;

/// The samples of a stream that are one part's of every batch, by their place in the part's epoch. Places
/// are taken in ascending order; places that were passed cannot be taken again.
pub(crate) struct BlockShuffle {
    reader: Reader,
    epoch: u64,
    block: Block,
    /// The next block, being read.
    ahead: Option<JoinHandle<(Block, Walk)>>,
    /// At the end of an epoch: the walk that continues it, and the next epoch's first block.
    rest: Option<Walk>,
    next_epoch: Option<JoinHandle<(Block, Walk)>>,
}

/// How a stream is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamOrder {
    pub seed: u64,
    /// Whether shards are drawn with replacement.
    pub resample: bool,
    pub part: PartOrder,
    /// The number of parts that this process reads.
    pub own_parts: usize,
}

/// Reads blocks.
#[derive(Clone)]
struct Reader {
    shards: Arc<dyn ShardedDataset>,
    order: StreamOrder,
}

struct Block {
    start: StreamState,
    samples: Vec<Option<(usize, StreamSample)>>,
    end: StreamState,
}

impl BlockShuffle {
    /// - mark: the start of the block that holds the first place; the epoch's start by default.
    pub fn start(
        shards: Arc<dyn ShardedDataset>,
        order: StreamOrder,
        epoch: u64,
        mark: Option<StreamState>,
    ) -> Self {
        let reader = Reader { shards, order };
        let mark = mark.unwrap_or_default();
        Self {
            ahead: Some(reader.begin(epoch, Some(&mark))),
            block: Block {
                start: mark.clone(),
                samples: Vec::new(),
                end: mark,
            },
            reader,
            epoch,
            rest: None,
            next_epoch: None,
        }
    }

    /// Moves to the start of another epoch.
    pub fn set_epoch(&mut self, epoch: u64) {
        let ahead = (self.next_epoch.take()).filter(|_| epoch == self.epoch + 1);
        let ahead = ahead.unwrap_or_else(|| self.reader.begin(epoch, None));
        *self = Self {
            reader: self.reader.clone(),
            epoch,
            block: Block {
                start: StreamState::default(),
                samples: Vec::new(),
                end: StreamState::default(),
            },
            ahead: Some(ahead),
            rest: None,
            next_epoch: None,
        };
    }

    /// The sample at a place of the epoch, with its shard.
    ///
    /// # Panics
    /// If the place was taken before.
    pub fn take(&mut self, place: usize) -> Result<(usize, StreamSample), NoSamples> {
        while place >= self.block.end.place {
            self.advance()?;
        }
        let sample = self.block.samples[place - self.block.start.place].take();
        Ok(sample.expect("each place is taken once"))
    }

    /// The state from which a place can be found again.
    pub fn mark(&self, place: usize) -> StreamState {
        if place >= self.block.end.place {
            self.block.end.clone()
        } else {
            self.block.start.clone()
        }
    }

    fn advance(&mut self) -> Result<(), NoSamples> {
        let ahead = match (self.ahead.take(), self.rest.take()) {
            (Some(ahead), _) => ahead,
            (None, Some(walk)) => self.reader.read(walk, self.epoch, self.block.end.place),
            (None, None) => return Err(NoSamples),
        };
        let (block, walk) = ahead.join().map_err(|_| NoSamples)?;
        if block.samples.is_empty() {
            return Err(NoSamples);
        }
        let place = block.end.place;
        if place >= self.reader.order.part.len() {
            self.rest = Some(walk);
            if self.next_epoch.is_none() {
                self.next_epoch = Some(self.reader.begin(self.epoch + 1, None));
            }
        } else {
            self.ahead = Some(self.reader.read(walk, self.epoch, place));
        }
        self.block = block;
        Ok(())
    }
}

impl Reader {
    fn begin(&self, epoch: u64, mark: Option<&StreamState>) -> JoinHandle<(Block, Walk)> {
        let StreamOrder {
            seed,
            resample,
            part,
            own_parts,
        } = self.order;
        let order = ShardOrder::Random {
            seed,
            resample,
            part: (part.part, part.parts),
            own_parts,
        };
        let epoch_len = Some(part.epoch_len);
        let walk = Walk::new(self.shards.clone(), order, (epoch, epoch_len), mark);
        self.read(walk, epoch, mark.map_or(0, |mark| mark.place))
    }

    /// Reads the block that begins at `place`.
    fn read(&self, mut walk: Walk, epoch: u64, place: usize) -> JoinHandle<(Block, Walk)> {
        let (order, limit) = (self.order, self.block_len(place));
        let parts = order.part.parts;
        let most_bytes = MAX_BLOCK_BYTES / parts;
        let empty_passes = if parts == 1 { 1 } else { EMPTY_PASSES * parts };
        thread::spawn(move || {
            let start = walk.mark(place);
            let (mut samples, mut bytes, mut passes) = (Vec::new(), 0, 0);
            while samples.len() < limit && bytes < most_bytes {
                if let Some(sample) = walk.next() {
                    bytes += size_of_image(&sample.1);
                    samples.push(Some(sample));
                    continue;
                }
                walk.next_pass();
                passes += 1;
                // A block ends with its pass, so that a pass is a permutation. The block may begin
                // at the very end of a pass; if the next has no samples either, there are none.
                if !samples.is_empty() || passes > empty_passes {
                    break;
                }
            }
            let end = walk.mark(place + samples.len());
            // Of no other part, and the same for batches of any size.
            let draw = (place * parts + order.part.part) as u64;
            samples.shuffle(&mut stream(order.seed, Purpose::Shuffle, epoch, draw));
            let block = Block {
                start,
                samples,
                end,
            };
            (block, walk)
        })
    }

    /// Blocks end with the epoch, so that an epoch as long as a pass has every sample once.
    fn block_len(&self, place: usize) -> usize {
        let part = &self.order.part;
        match part.len().saturating_sub(place) {
            0 => (SPARE_BLOCK / part.parts).max(LEAST_SPARE),
            left => (self.shards.shuffle_buffer() / part.parts).clamp(1, left),
        }
    }
}

fn size_of_image(sample: &StreamSample) -> usize {
    match &sample.sample {
        Ok(sample) => match &sample.image {
            ImageData::Encoded(bytes) => bytes.len(),
            ImageData::Pixels(pixels) => pixels.as_raw().len(),
        },
        Err(_) => 0,
    }
}
