//! Batches in a fixed order, made ahead of the training loop by threads of their own.
//!
//! What a batch holds depends on (seed, epoch, source) alone, never on the number of
//! threads: a sample that cannot be used is replaced by the next one of the epoch's
//! order, and the position behind a batch is all that resuming needs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

use crate::decode::decode_reduced;
use crate::draw::{Purpose, stream};
use crate::order::Order;
use crate::read_ahead::{PixelChunk, ReadAhead};
use crate::sample::{Fault, SkipCause, Skipped};
use crate::source::{Item, Set};
use crate::stages::{Stage, StageClock, StageTimes};
use crate::stream::{Blocks, NoSamples, StreamMark};
use crate::{Tokenizer, Transform, decode};

/// Most batches that wait for the training loop, beside the one being made.
const QUEUE: usize = 2;
/// Pixels that may wait beside one whole batch: so many bytes, or this part of a batch.
const READ_AHEAD_BYTES: usize = 8 << 20;
const READ_AHEAD_PART: usize = 16;
/// Images that are made at once and lie together in memory.
const CHUNK: usize = 128;
/// A batch's captions are padded to a multiple of this.
const TOKEN_MULTIPLE: usize = 8;

/// A place between two batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub epoch: u64,
    /// Batches of this epoch that lie behind.
    pub batches: usize,
    /// Samples of this epoch's order that lie behind, skipped ones included.
    pub samples: usize,
    /// How many of those were skipped.
    pub skipped: usize,
    /// Of a stream: where its next sample is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamMark>,
}

/// What a loader needs besides its source.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    pub order: Order,
    /// Of this rank.
    pub batch_size: usize,
    pub transform: Transform,
    pub tokens: TokenOptions,
    /// Images with more pixels are skipped.
    pub max_image_pixels: u64,
    /// Decode JPEGs at a half, a quarter or an eighth of their size where that is still
    /// as large as what is cut out of them. It changes pixels.
    pub dct_scaling: bool,
    /// The largest share of an epoch's samples that may be skipped, in [0, 1].
    pub max_skipped: f64,
    /// Decoding threads; 0 for one per core.
    pub threads: usize,
}

impl LoaderOptions {
    /// The same on every rank; samples that fill no batch are left out.
    fn batches_per_epoch(&self) -> usize {
        self.order.epoch_len / (self.batch_size * self.order.share.ranks)
    }
}

/// How captions become rows of one matrix.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    pub tokenizer: Arc<Tokenizer>,
    pub context_length: usize,
    /// The id behind a caption's end.
    pub pad_id: u32,
    /// Whether a batch may be as long as its longest caption only: for towers that read
    /// no padding.
    pub cut: bool,
}

/// A batch on the host.
#[derive(Debug)]
pub struct HostBatch {
    /// `[batch, image_size, image_size, 3]` in chunks; empty where they are given back.
    chunks: Vec<Option<PixelChunk>>,
    /// Bytes of one image.
    image_len: usize,
    /// `[batch, token_length]`, padding after each caption's end.
    pub tokens: Vec<i32>,
    /// The longest caption's length rounded up, at most the context length.
    pub token_length: usize,
    /// How much of its row each caption needs.
    pub caption_lengths: Vec<usize>,
    /// Samples passed over on the way to this batch.
    pub skipped: Vec<Skipped>,
    /// Where the next batch starts.
    pub next: Position,
}

impl HostBatch {
    /// How many pairs it has.
    pub fn len(&self) -> usize {
        self.caption_lengths.len()
    }

    /// Whether it has no pair.
    pub fn is_empty(&self) -> bool {
        self.caption_lengths.is_empty()
    }

    /// The pixels of some of its pairs, `[rows, image_size, image_size, 3]`.
    ///
    /// # Panics
    /// If they were given back.
    pub fn pixels(&self, rows: Range<usize>) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(rows.len() * self.image_len);
        let mut row = rows.start;
        while row < rows.end {
            let (at, first) = (row / CHUNK, row % CHUNK);
            let last = CHUNK.min(first + rows.end - row);
            let chunk = self.chunks[at].as_ref().expect("these pixels are here");
            pixels.extend(&chunk.bytes[first * self.image_len..last * self.image_len]);
            row += last - first;
        }
        pixels
    }

    /// Gives back the pixels of the pairs before `row`, which makes room for the next
    /// batch.
    pub fn release_pixels(&mut self, row: usize) {
        let done = if row >= self.len() {
            self.chunks.len()
        } else {
            row / CHUNK
        };
        self.chunks[..done].fill_with(|| None);
    }

    /// A batch of pairs that are at hand already.
    /// - pixels: `[batch, image_size, image_size, 3]`; tokens: `[batch, token_length]`.
    /// - caption_lengths: how much of its row each caption needs.
    pub fn of(
        pixels: &[u8],
        tokens: Vec<i32>,
        token_length: usize,
        caption_lengths: Vec<usize>,
    ) -> Self {
        let image_len = pixels.len() / caption_lengths.len().max(1);
        let room = ReadAhead::new(usize::MAX);
        let chunks = pixels.chunks((image_len * CHUNK).max(1)).map(|bytes| {
            let mut chunk = room.chunk(bytes.len());
            chunk.bytes.copy_from_slice(bytes);
            Some(chunk)
        });
        Self {
            chunks: chunks.collect(),
            image_len,
            tokens,
            token_length,
            caption_lengths,
            skipped: Vec::new(),
            next: Position::default(),
        }
    }

    /// The tokens of some of its pairs, and the length of their rows: what the longest
    /// of them needs, rounded up.
    pub fn tokens(&self, rows: Range<usize>) -> (Vec<i32>, usize) {
        let longest = self.caption_lengths[rows.clone()].iter().max();
        let length = longest
            .map_or(0, |longest| longest.next_multiple_of(TOKEN_MULTIPLE))
            .min(self.token_length);
        let whole_rows = self.tokens.chunks_exact(self.token_length.max(1));
        let cut = whole_rows.skip(rows.start).take(rows.len());
        (
            cut.flat_map(|row| &row[..length]).copied().collect(),
            length,
        )
    }
}

/// Why there is no next batch.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    #[error(
        "{skipped} of {epoch_len} samples had to be skipped in epoch {} ({causes}), more than the \
         share data.max_skipped = {max_skipped} allows{}; skipped.jsonl lists them, `couplet data \
         check` finds all; mend the data or raise it", epoch + 1, example(list)
    )]
    TooManySkipped {
        epoch: u64,
        skipped: usize,
        epoch_len: usize,
        max_skipped: f64,
        causes: String,
        /// What was skipped on the way to the batch that failed.
        list: Vec<Skipped>,
    },
    #[error("the set has fewer usable samples than the batch size {batch_size}")]
    TooFewUsable { batch_size: usize },
    #[error(
        "no shard of data.train.shards holds a sample: an image with a caption of the same \
         name beside it"
    )]
    NoSamples,
    #[error("the data loader's thread ended without a word")]
    Died,
}

/// One of the samples that were skipped, in words.
fn example(list: &[Skipped]) -> String {
    list.first().map_or(String::new(), |one| {
        format!(", such as {} of {}: {}", one.key, one.shard, one.detail)
    })
}

/// Makes batches in the background until it is dropped.
#[derive(Debug)]
pub struct Loader {
    batches: Receiver<Result<HostBatch, LoaderError>>,
    room: Arc<ReadAhead>,
    clock: Arc<StageClock>,
}

impl Loader {
    /// Starts making batches at `position`.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(set: Set, options: LoaderOptions, position: Position) -> std::io::Result<Self> {
        let (sender, batches) = sync_channel(QUEUE);
        let batch_bytes = options.batch_size * options.transform.output_len();
        let beside = READ_AHEAD_BYTES.max(batch_bytes / READ_AHEAD_PART);
        let room = ReadAhead::new(batch_bytes + beside);
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|at| format!("loader-{at}"))
            .build()
            .map_err(std::io::Error::other)?;
        let clock = Arc::new(StageClock::default());
        let maker = BatchMaker {
            set,
            options,
            pool,
            room: room.clone(),
            clock: clock.clone(),
        };
        thread::Builder::new()
            .name("loader".into())
            .spawn(move || maker.run(position, &sender))?;
        Ok(Self {
            batches,
            room,
            clock,
        })
    }

    /// What the threads have spent on each stage so far.
    pub fn stage_times(&self) -> StageTimes {
        self.clock.times()
    }

    /// The next batch; waits for it if it is not ready.
    ///
    /// # Errors
    /// If too many samples had to be skipped, or the loader died.
    pub fn next_batch(&self) -> Result<HostBatch, LoaderError> {
        self.room.set_awaited(true);
        let batch = self.batches.recv().unwrap_or(Err(LoaderError::Died));
        self.room.set_awaited(false);
        batch
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Lets the maker find out that nobody listens.
        self.room.set_awaited(true);
    }
}

/// The samples of one epoch, by their place in it.
enum EpochOrder {
    Indices(Vec<usize>),
    Stream(Box<Blocks>),
}

struct BatchMaker {
    set: Set,
    options: LoaderOptions,
    pool: ThreadPool,
    room: Arc<ReadAhead>,
    clock: Arc<StageClock>,
}

impl BatchMaker {
    fn run(&self, mut position: Position, sender: &SyncSender<Result<HostBatch, LoaderError>>) {
        let batches_per_epoch = self.options.batches_per_epoch();
        let mut causes = BTreeMap::new();
        let mut order = self.order(&position);
        loop {
            while position.batches < batches_per_epoch {
                let batch = self.batch(&mut order, &position, &mut causes);
                let failed = batch.is_err();
                if let Ok(batch) = &batch {
                    position = batch.next.clone();
                }
                if sender.send(batch).is_err() || failed {
                    return;
                }
                if position.batches == 0 {
                    break;
                }
            }
            causes.clear();
            match &mut order {
                EpochOrder::Indices(order) => *order = self.options.order.epoch(position.epoch),
                EpochOrder::Stream(blocks) => blocks.set_epoch(position.epoch),
            }
        }
    }

    fn order(&self, position: &Position) -> EpochOrder {
        let order = &self.options.order;
        match &self.set {
            Set::Indexed(_) => EpochOrder::Indices(order.epoch(position.epoch)),
            Set::Stream(shards) => EpochOrder::Stream(Box::new(Blocks::start(
                shards.clone(),
                (order.seed, order.resample, order.epoch_len),
                position.epoch,
                position.stream.clone(),
            ))),
        }
    }

    /// The rank's sample number `at` of the epoch.
    fn item(&self, order: &mut EpochOrder, at: usize) -> Result<Item, LoaderError> {
        match order {
            // Past the end, an epoch with bad samples begins again.
            EpochOrder::Indices(order) => Ok(Item::Index(order[at % order.len()])),
            EpochOrder::Stream(blocks) => {
                let place = self.options.order.share.place(at);
                // Reading ahead hides its time; what is left of it is waited for here.
                let taken = self.clock.run(Stage::Read, || blocks.take(place));
                let (shard, sample) = taken.map_err(|NoSamples| LoaderError::NoSamples)?;
                Ok(Item::Streamed(shard, sample))
            }
        }
    }

    /// Fills a batch with the next usable samples, each slot written in place.
    fn batch(
        &self,
        order: &mut EpochOrder,
        start: &Position,
        causes: &mut BTreeMap<SkipCause, usize>,
    ) -> Result<HostBatch, LoaderError> {
        let options = &self.options;
        let image_len = options.transform.output_len();
        let mut captions: Vec<Vec<u32>> = vec![Vec::new(); options.batch_size];
        let mut chunks = Vec::new();
        let mut skipped = Vec::new();
        let mut next = start.clone();
        let epoch_len = options.order.epoch_len / options.order.share.ranks;
        for captions in captions.chunks_mut(CHUNK) {
            let mut chunk = self.room.chunk(captions.len() * image_len);
            let mut open: Vec<usize> = (0..captions.len()).collect();
            while !open.is_empty() {
                if next.samples - start.samples >= epoch_len + options.batch_size {
                    return Err(LoaderError::TooFewUsable {
                        batch_size: options.batch_size,
                    });
                }
                let slots = chunk
                    .bytes
                    .chunks_exact_mut(image_len)
                    .zip(captions.iter_mut())
                    .enumerate()
                    .filter(|(slot, _)| open.binary_search(slot).is_ok());
                let mut work = Vec::with_capacity(open.len());
                for ((slot, (pixels, tokens)), at) in slots.zip(next.samples..) {
                    work.push((slot, pixels, tokens, at, self.item(order, at)?));
                }
                next.samples += work.len();
                let faults: Vec<Option<(usize, Skipped)>> = self.pool.install(|| {
                    work.into_par_iter()
                        .map(|(slot, pixels, tokens, at, item)| {
                            let loaded = self.load(item, next.epoch, at, pixels, tokens);
                            loaded.err().map(|skipped| (slot, skipped))
                        })
                        .collect()
                });
                open.clear();
                for (slot, fault) in faults.into_iter().flatten() {
                    open.push(slot);
                    *causes.entry(fault.cause).or_default() += 1;
                    skipped.push(fault);
                }
                next.skipped += open.len();
                self.check_share(&next, causes, &mut skipped)?;
            }
            chunks.push(Some(chunk));
        }
        next.batches += 1;
        if next.batches == options.batches_per_epoch() {
            next = Position {
                epoch: next.epoch + 1,
                ..Position::default()
            };
        } else if let EpochOrder::Stream(blocks) = order {
            next.stream = Some(blocks.mark(options.order.share.place(next.samples)));
        }
        let (tokens, token_length) = options.tokens.pad(&captions);
        let caption_lengths = if options.tokens.cut {
            captions.iter().map(Vec::len).collect()
        } else {
            vec![token_length; captions.len()]
        };
        Ok(HostBatch {
            chunks,
            image_len,
            tokens,
            token_length,
            caption_lengths,
            skipped,
            next,
        })
    }

    fn check_share(
        &self,
        position: &Position,
        causes: &BTreeMap<SkipCause, usize>,
        skipped: &mut Vec<Skipped>,
    ) -> Result<(), LoaderError> {
        let epoch_len = self.options.order.epoch_len / self.options.order.share.ranks;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share needs no more than 53 bits"
        )]
        let share = position.skipped as f64 / epoch_len as f64;
        if share <= self.options.max_skipped {
            return Ok(());
        }
        let causes: Vec<_> = causes
            .iter()
            .map(|(cause, n)| format!("{n} {cause}"))
            .collect();
        Err(LoaderError::TooManySkipped {
            epoch: position.epoch,
            skipped: position.skipped,
            epoch_len,
            max_skipped: self.options.max_skipped,
            causes: causes.join(", "),
            list: std::mem::take(skipped),
        })
    }

    /// Reads, decodes, transforms and tokenizes one sample into its slot.
    fn load(
        &self,
        item: Item,
        epoch: u64,
        at: usize,
        pixels: &mut [u8],
        tokens: &mut Vec<u32>,
    ) -> Result<(), Skipped> {
        let options = &self.options;
        *tokens = self.set.attempt(item, epoch, |read| {
            let clock = &self.clock;
            let sample = clock.run(Stage::Read, read)?;
            let place = options.order.share.place(at) as u64;
            let mut rng = stream(options.order.seed, Purpose::Augment, epoch, place);
            let (picture, max_pixels) = (sample.picture, options.max_image_pixels);
            let (image, size) = clock.run(Stage::Decode, || {
                if options.dct_scaling {
                    let reduction = |size| options.transform.reduction(size, &mut rng.clone());
                    return decode_reduced(picture, max_pixels, reduction);
                }
                let image = decode(picture, max_pixels)?;
                let size = image.dimensions().into();
                Ok((image, size))
            })?;
            let transform = || (options.transform).apply_reduced(&image, size, &mut rng, pixels);
            clock
                .run(Stage::Transform, transform)
                .map_err(|error| Fault::new(SkipCause::CorruptImage, error))?;
            let encode = || options.tokens.encode(&sample.caption);
            Ok(clock.run(Stage::Tokenize, encode))
        })?;
        Ok(())
    }
}

impl TokenOptions {
    /// A caption's ids, its start and end included.
    pub fn encode(&self, caption: &str) -> Vec<u32> {
        self.tokenizer.encode(caption, self.context_length)
    }

    /// Captions as one matrix `[captions, length]` with its length. Where the tower reads
    /// no padding, the matrix is as long as its longest caption needs.
    pub fn pad(&self, captions: &[Vec<u32>]) -> (Vec<i32>, usize) {
        let longest = captions.iter().map(Vec::len).max().unwrap_or(0);
        let length = if self.cut {
            longest
                .next_multiple_of(TOKEN_MULTIPLE)
                .min(self.context_length)
        } else {
            self.context_length
        };
        let pad_id = self.pad_id.cast_signed();
        let mut tokens = Vec::with_capacity(captions.len() * length);
        for caption in captions {
            tokens.extend(caption.iter().map(|id| id.cast_signed()));
            tokens.resize(tokens.len() + length - caption.len(), pad_id);
        }
        (tokens, length)
    }
}

#[cfg(test)]
mod tests;
