//! Blocks of samples, each permuted, read ahead of their consumer.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rand::seq::SliceRandom;

use super::walk::{ShardOrder, Walk};
use super::{ShardedDataset, StreamSample, StreamState};
use crate::draw::{Purpose, stream};
use crate::sample::ImageData;

/// A block ends when its images take this many bytes, however few they are.
const MAX_BLOCK_BYTES: usize = 256 << 20;
/// Samples of a block that only replaces unusable samples at the end of an epoch.
const SPARE_BLOCK: usize = 64;

/// No shard holds a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSamples;

/// The samples of a stream by their place in the epoch. Places are taken in ascending order; places
/// that were passed cannot be taken again.
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

/// Reads blocks.
#[derive(Clone)]
struct Reader {
    shards: Arc<dyn ShardedDataset>,
    seed: u64,
    resample: bool,
    epoch_len: usize,
}

struct Block {
    start: StreamState,
    samples: Vec<Option<(usize, StreamSample)>>,
    end: StreamState,
}

impl BlockShuffle {
    /// - epoch_len: samples per epoch, of all ranks.
    /// - mark: the start of the block that holds the first place; the epoch's start by default.
    pub fn start(
        shards: Arc<dyn ShardedDataset>,
        (seed, resample, epoch_len): (u64, bool, usize),
        epoch: u64,
        mark: Option<StreamState>,
    ) -> Self {
        let reader = Reader {
            shards,
            seed,
            resample,
            epoch_len,
        };
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
        if place >= self.reader.epoch_len {
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
        let order = ShardOrder::Random {
            seed: self.seed,
            resample: self.resample,
        };
        let walk = Walk::new(
            self.shards.clone(),
            order,
            (epoch, Some(self.epoch_len)),
            mark,
        );
        self.read(walk, epoch, mark.map_or(0, |mark| mark.place))
    }

    /// Reads the block that begins at `place`.
    fn read(&self, mut walk: Walk, epoch: u64, place: usize) -> JoinHandle<(Block, Walk)> {
        let (seed, limit) = (self.seed, self.block_len(place));
        thread::spawn(move || {
            let start = walk.mark(place);
            let (mut samples, mut bytes, mut passes) = (Vec::new(), 0, 0);
            while samples.len() < limit && bytes < MAX_BLOCK_BYTES {
                if let Some(sample) = walk.next() {
                    bytes += size_of_image(&sample.1);
                    samples.push(Some(sample));
                    continue;
                }
                walk.next_pass();
                passes += 1;
                // A block ends with its pass, so that a pass is a permutation. The block may begin
                // at the very end of a pass; if the next pass has no samples either, there are none.
                if !samples.is_empty() || passes > 1 {
                    break;
                }
            }
            let end = walk.mark(place + samples.len());
            samples.shuffle(&mut stream(seed, Purpose::Shuffle, epoch, place as u64));
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
        match self.epoch_len.saturating_sub(place) {
            0 => SPARE_BLOCK,
            left => self.shards.shuffle_buffer().min(left),
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
