//! Batches in a fixed order, made ahead of the training loop by the loader's own threads.
//!
//! The content of a batch depends on (seed, epoch, dataset) alone, never on the number of threads:
//! an unusable sample is replaced by the next one of the epoch's order, and the position after a
//! batch is all that resuming needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::decode::{decode, decode_reduced};
use crate::draw::{Purpose, stream};
use crate::error::{LastCause, printable, printable_text, with_causes};
use crate::order::Order;
use crate::read_ahead::ReadAhead;
use crate::sample::{SampleError, SkipCause, Skipped};
use crate::source::{Item, PairDataset};
use crate::stages::{Stage, StageClock, StageTimes};
use crate::stream::{BlockShuffle, NoSamples};
use crate::transform::Transform;

mod batch;
mod state;

use batch::{CHUNK, Row, close_up};
pub use batch::{HostBatch, TOKEN_MULTIPLE, TokenOptions};
pub use state::LoaderState;

/// Finished batches that may wait for the training loop, in addition to the one being made.
const QUEUE: usize = 2;
/// Pixels held in addition to one whole batch: this many bytes, or this fraction of a batch.
const READ_AHEAD_BYTES: usize = 8 << 20;
const READ_AHEAD_PART: usize = 16;

/// What a loader needs besides its dataset.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    pub order: Order,
    /// The batch size of this rank.
    pub batch_size: usize,
    pub transform: Transform,
    pub tokens: TokenOptions,
    /// Images with more pixels are skipped.
    pub max_image_pixels: u64,
    /// Decode JPEGs at a half, a quarter or an eighth of their size where the result is still as large
    /// as what is cropped from it. It changes pixel values.
    pub dct_scaling: bool,
    /// The largest fraction of an epoch's samples that may be skipped, from 0 to 1.
    pub max_skipped: f64,
    /// Number of decoding threads; 0 for one per core.
    pub threads: usize,
    /// Read one epoch, each sample once: skipped samples are not replaced, and the last batch holds
    /// the remaining samples, possibly none.
    pub once: bool,
}

impl LoaderOptions {
    /// The number of samples per epoch of this rank.
    fn epoch_len(&self) -> usize {
        self.order.epoch_len / self.order.share.ranks
    }

    /// Whether the epoch has ended. It has the same number of batches on every rank; samples that do
    /// not fill a batch are dropped.
    fn is_over(&self, position: &LoaderState) -> bool {
        if self.once {
            position.samples >= self.epoch_len()
        } else {
            position.batches >= self.epoch_len() / self.batch_size
        }
    }
}

/// Why there is no next batch.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    #[error(
        "{about}{skipped} of {samples} samples were skipped in epoch {} ({causes}), more than \
         data.max_skipped = {max_skipped} allows{}; `couplet data check` lists all; fix the data or raise \
         data.max_skipped, and a run continues with --resume", epoch + 1, example(list)
    )]
    TooManySkipped {
        epoch: u64,
        skipped: usize,
        /// "about " if the number of lost samples is an estimate, else empty.
        about: &'static str,
        /// Samples in the epoch, including lost ones.
        samples: usize,
        max_skipped: f64,
        causes: String,
        /// The samples skipped in the batch that failed.
        list: Vec<Skipped>,
    },
    #[error(
        "the dataset has fewer usable samples than the batch size, {batch_size}; fix the data or lower \
         the batch size"
    )]
    TooFewUsable { batch_size: usize },
    #[error(
        "no shard holds a sample: each needs an image and a caption of the same name; check the pattern of the shards"
    )]
    NoSamples,
    #[error(
        "the data loader's thread exited unexpectedly; this is a bug of Couplet, please report it with the log"
    )]
    Died,
}

/// One of the skipped samples, for an error message.
fn example(list: &[Skipped]) -> String {
    list.first().map_or(String::new(), |one| {
        let [key, shard] = [&one.key, &one.shard].map(|name| printable(name));
        let detail = printable_text(&one.detail);
        format!(", such as {key} of {shard}: {detail}")
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
    /// If the system cannot start threads.
    pub fn start(
        dataset: PairDataset,
        options: LoaderOptions,
        position: LoaderState,
    ) -> std::io::Result<Self> {
        let (sender, batches) = sync_channel(QUEUE);
        let batch_bytes = options.batch_size * options.transform.output_len();
        let extra = READ_AHEAD_BYTES.max(batch_bytes / READ_AHEAD_PART);
        let room = ReadAhead::new(batch_bytes + extra);
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|at| format!("loader-{at}"))
            .build()
            .map_err(|error| std::io::Error::other(LastCause(error)))?;
        let clock = Arc::new(StageClock::default());
        let maker = BatchMaker {
            dataset,
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

    /// The time that all threads have spent in each stage so far.
    pub fn stage_times(&self) -> StageTimes {
        self.clock.times()
    }

    /// The next batch; blocks until it is ready.
    ///
    /// # Errors
    /// If too many samples were skipped, or the loader's thread died.
    pub fn next_batch(&self) -> Result<HostBatch, LoaderError> {
        self.room.set_awaited(true);
        let batch = self.batches.recv().unwrap_or(Err(LoaderError::Died));
        self.room.set_awaited(false);
        batch
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Unblocks the maker, so that it notices that the receiver is gone.
        self.room.set_awaited(true);
    }
}

/// The samples of one epoch, by their position in it.
enum EpochOrder {
    Indices(Vec<usize>),
    Stream(Box<BlockShuffle>),
}

struct BatchMaker {
    dataset: PairDataset,
    options: LoaderOptions,
    pool: ThreadPool,
    room: Arc<ReadAhead>,
    clock: Arc<StageClock>,
}

impl BatchMaker {
    fn run(&self, mut position: LoaderState, sender: &SyncSender<Result<HostBatch, LoaderError>>) {
        let mut causes = BTreeMap::new();
        // An epoch that has become shorter than the position is over.
        if position.batches > 0 && self.options.is_over(&position) {
            position = LoaderState {
                epoch: position.epoch + 1,
                ..LoaderState::default()
            };
        }
        let mut order = self.order(&position);
        loop {
            while !self.options.is_over(&position) {
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
            if self.options.once {
                return;
            }
            causes.clear();
            match &mut order {
                EpochOrder::Indices(order) => *order = self.options.order.epoch(position.epoch),
                EpochOrder::Stream(blocks) => blocks.set_epoch(position.epoch),
            }
        }
    }

    fn order(&self, position: &LoaderState) -> EpochOrder {
        let order = &self.options.order;
        match &self.dataset {
            PairDataset::Indexed(_) => EpochOrder::Indices(order.epoch(position.epoch)),
            PairDataset::Stream(shards) => EpochOrder::Stream(Box::new(BlockShuffle::start(
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
            // After its end, an epoch with bad samples starts again from its beginning.
            EpochOrder::Indices(order) => Ok(Item::Index(order[at % order.len()])),
            EpochOrder::Stream(blocks) => {
                let place = self.options.order.share.place(at);
                // Mostly read ahead; the remaining wait counts as reading.
                let taken = self.clock.run(Stage::Read, || blocks.take(place));
                let (shard, sample) = taken.map_err(|NoSamples| LoaderError::NoSamples)?;
                Ok(Item::StreamSample(shard, sample))
            }
        }
    }

    /// Fills a batch with the next usable samples; each sample is written directly to its slot.
    fn batch(
        &self,
        order: &mut EpochOrder,
        start: &LoaderState,
        causes: &mut BTreeMap<SkipCause, usize>,
    ) -> Result<HostBatch, LoaderError> {
        let options = &self.options;
        let image_len = options.transform.output_len();
        let mut rows = vec![Row::default(); options.batch_size];
        let mut chunks = Vec::new();
        let mut skipped = Vec::new();
        let mut next = start.clone();
        let epoch_len = options.epoch_len();
        let mut filled = options.batch_size;
        for (at_chunk, rows) in rows.chunks_mut(CHUNK).enumerate() {
            let mut chunk = self.room.chunk(rows.len() * image_len);
            let mut open: Vec<usize> = (0..rows.len()).collect();
            while !open.is_empty() {
                let left = if options.once {
                    epoch_len - next.samples
                } else {
                    usize::MAX
                };
                if left == 0 {
                    let whole = close_up(&mut chunk.bytes, rows, image_len, &open);
                    filled = filled.min(at_chunk * CHUNK + whole);
                    break;
                }
                if next.samples - start.samples >= epoch_len + options.batch_size {
                    return Err(LoaderError::TooFewUsable {
                        batch_size: options.batch_size,
                    });
                }
                let slots = chunk
                    .bytes
                    .chunks_exact_mut(image_len)
                    .zip(rows.iter_mut())
                    .enumerate()
                    .filter(|(slot, _)| open.binary_search(slot).is_ok());
                let mut work = Vec::with_capacity(open.len());
                for ((slot, (pixels, row)), at) in slots.zip(next.samples..).take(left) {
                    work.push((slot, pixels, row, at, self.item(order, at)?));
                }
                let taken = work.len();
                next.samples += taken;
                let failures: Vec<Option<(usize, usize, Skipped)>> = self.pool.install(|| {
                    work.into_par_iter()
                        .map(|(slot, pixels, row, at, item)| {
                            let loaded = self.load(item, next.epoch, at, pixels, row);
                            loaded.err().map(|skipped| (slot, at, skipped))
                        })
                        .collect()
                });
                open.drain(..taken);
                for (slot, at, failure) in failures.into_iter().flatten() {
                    open.push(slot);
                    // After its end an epoch begins again, with samples that it has counted already.
                    if at >= epoch_len {
                        continue;
                    }
                    *causes.entry(failure.cause).or_default() += failure.samples;
                    next.skipped += 1;
                    next.lost += failure.samples - 1;
                    skipped.push(failure);
                }
                open.sort_unstable();
                self.check_skipped(&next, causes, &mut skipped)?;
            }
            chunks.push(Some(chunk));
        }
        rows.truncate(filled);
        next.batches += 1;
        if options.is_over(&next) {
            next = LoaderState {
                epoch: next.epoch + 1,
                ..LoaderState::default()
            };
        } else if let EpochOrder::Stream(blocks) = order {
            next.stream = Some(blocks.mark(options.order.share.place(next.samples)));
        }
        let labels = rows.iter().filter_map(|row| row.label);
        let labels =
            labels.map(|label| i32::try_from(label).expect("a class number fits in 32 bits"));
        let labels = labels.collect();
        let captions: Vec<Vec<u32>> = rows.into_iter().map(|row| row.tokens).collect();
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
            labels,
            skipped,
            next,
        })
    }

    fn check_skipped(
        &self,
        position: &LoaderState,
        causes: &BTreeMap<SkipCause, usize>,
        skipped: &mut Vec<Skipped>,
    ) -> Result<(), LoaderError> {
        let epoch_len = self.options.epoch_len();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a fraction needs no more than 53 bits"
        )]
        let share = (position.skipped + position.lost) as f64 / (epoch_len + position.lost) as f64;
        if share <= self.options.max_skipped {
            return Ok(());
        }
        let causes: Vec<_> = causes
            .iter()
            .map(|(cause, n)| format!("{n} {cause}"))
            .collect();
        Err(LoaderError::TooManySkipped {
            epoch: position.epoch,
            skipped: position.skipped + position.lost,
            about: if position.lost > 0 { "about " } else { "" },
            samples: epoch_len + position.lost,
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
        row: &mut Row,
    ) -> Result<(), Skipped> {
        let options = &self.options;
        *row = self.dataset.attempt(item, epoch, |read| {
            let clock = &self.clock;
            let sample = clock.run(Stage::Read, read)?;
            let place = options.order.share.place(at) as u64;
            let mut rng = stream(options.order.seed, Purpose::Augment, epoch, place);
            let (image_data, max_pixels) = (sample.image, options.max_image_pixels);
            let (image, size) = clock.run(Stage::Decode, || {
                if options.dct_scaling {
                    let reduction = |size| options.transform.reduction(size, &mut rng.clone());
                    return decode_reduced(image_data, max_pixels, reduction);
                }
                let image = decode(image_data, max_pixels)?;
                let size = image.dimensions().into();
                Ok((image, size))
            })?;
            let transform = || (options.transform).apply_reduced(&image, size, &mut rng, pixels);
            clock
                .run(Stage::Transform, transform)
                .map_err(|error| SampleError::new(SkipCause::CorruptImage, with_causes(&error)))?;
            let encode = || options.tokens.encode(&sample.caption);
            let tokens = clock.run(Stage::Tokenize, encode);
            Ok(Row {
                tokens: tokens.map_err(SampleError::from)?,
                label: sample.label,
            })
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
