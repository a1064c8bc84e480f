//! Fills batches, part by part.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::batch::{CHUNK, HostBatch, Row, close_up};
use super::error::{LoaderError, check_skipped};
use super::options::LoaderOptions;
use super::samples::EpochSamples;
use super::state::LoaderState;
use crate::decode::{decode, decode_reduced};
use crate::draw::{Purpose, stream};
use crate::read_ahead::{PixelChunk, ReadAhead};
use crate::sample::{SampleError, SkipCause, Skipped};
use crate::source::{Item, PairDataset};
use crate::stages::{Stage, StageClock};

pub(super) struct BatchMaker {
    pub dataset: PairDataset,
    pub options: LoaderOptions,
    pub pool: ThreadPool,
    pub room: Arc<ReadAhead>,
    pub clock: Arc<StageClock>,
}

/// A batch that is being filled.
struct Filling {
    chunks: Vec<PixelChunk>,
    rows: Vec<Row>,
    /// Bad samples with their parts.
    skipped: Vec<(usize, Skipped)>,
    start: LoaderState,
    next: LoaderState,
}

/// A slot to be filled with the sample number `at` of a part.
struct Work<'a> {
    slot: usize,
    pixels: &'a mut [u8],
    row: &'a mut Row,
    part: usize,
    at: usize,
    place: usize,
    item: Item,
}

/// Bad samples of an epoch so far.
type Causes = BTreeMap<SkipCause, usize>;

impl BatchMaker {
    pub fn run(
        &self,
        mut position: LoaderState,
        sender: &SyncSender<Result<HostBatch, LoaderError>>,
    ) {
        let mut causes = Causes::new();
        // An epoch that has become shorter than the position is over.
        if position.batches > 0 && self.options.is_over(&position) {
            position = LoaderState::start_of(position.epoch + 1, position.parts.len());
        }
        let mut samples = EpochSamples::start(&self.dataset, &self.options, &position);
        loop {
            while !self.options.is_over(&position) {
                let batch = self.batch(&mut samples, &position, &mut causes);
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
            samples.set_epoch(&self.options, position.epoch);
        }
    }

    /// Fills a batch with the next usable samples; each sample is written directly to its slot.
    fn batch(
        &self,
        samples: &mut EpochSamples,
        start: &LoaderState,
        causes: &mut Causes,
    ) -> Result<HostBatch, LoaderError> {
        let options = &self.options;
        let image_len = options.transform.output_len();
        let mut batch = Filling {
            chunks: Vec::new(),
            rows: vec![Row::default(); options.own_rows()],
            skipped: Vec::new(),
            start: start.clone(),
            next: start.clone(),
        };
        // Rows for which there is no sample, which only reading once leaves.
        let mut empty = Vec::new();
        for group in groups(options.parts.own.len(), options.part_rows()) {
            empty.extend(self.fill(&mut batch, group, samples, causes)?);
        }
        let filled = close_up(&mut batch.chunks, &mut batch.rows, image_len, &empty);
        let Filling {
            chunks,
            mut rows,
            skipped,
            mut next,
            ..
        } = batch;
        let skipped = by_part(skipped);
        rows.truncate(filled);
        next.batches += 1;
        if options.is_over(&next) {
            next = LoaderState::start_of(next.epoch + 1, next.parts.len());
        } else {
            samples.mark(&mut next);
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
            chunks: chunks.into_iter().map(Some).collect(),
            image_len,
            tokens,
            token_length,
            caption_lengths,
            labels,
            skipped,
            next,
        })
    }

    /// Fills the rows of a group, all open ones at once, until none is bad.
    /// - returns the rows for which there is no sample, which only reading once leaves.
    fn fill(
        &self,
        batch: &mut Filling,
        group: Range<usize>,
        samples: &mut EpochSamples,
        causes: &mut Causes,
    ) -> Result<Vec<usize>, LoaderError> {
        let image_len = self.options.transform.output_len();
        while batch.chunks.len() * CHUNK < group.end {
            let rows = CHUNK.min(batch.rows.len() - batch.chunks.len() * CHUNK);
            batch.chunks.push(self.room.chunk(rows * image_len));
        }
        let epoch = batch.next.epoch;
        let mut open: Vec<usize> = group.collect();
        while !open.is_empty() {
            let work = self.work(batch, &open, samples)?;
            let taken = work.len();
            if taken == 0 {
                break;
            }
            let failures: Vec<Option<(usize, usize, usize, Skipped)>> = self.pool.install(|| {
                work.into_par_iter()
                    .map(|work| {
                        let Work { slot, part, at, .. } = work;
                        let draws = (epoch, work.place);
                        let loaded = self.load(work.item, draws, work.pixels, work.row);
                        loaded.err().map(|skipped| (slot, part, at, skipped))
                    })
                    .collect()
            });
            open.drain(..taken);
            for (slot, part, at, failure) in failures.into_iter().flatten() {
                open.push(slot);
                // After its end an epoch begins again, with samples that it has counted already.
                if !samples.order(part).is_in_epoch(at) {
                    continue;
                }
                *causes.entry(failure.cause).or_default() += failure.samples;
                let state = &mut batch.next.parts[part];
                state.skipped += 1;
                state.lost += failure.samples - 1;
                batch.skipped.push((part, failure));
            }
            open.sort_unstable();
            self.check_skipped(&batch.next, causes, &mut batch.skipped)?;
        }
        Ok(open)
    }

    /// The next sample of its part for each open row, in order; for fewer if a dataset that is read once has
    /// none for them.
    fn work<'a>(
        &self,
        batch: &'a mut Filling,
        open: &[usize],
        samples: &mut EpochSamples,
    ) -> Result<Vec<Work<'a>>, LoaderError> {
        let options = &self.options;
        let image_len = options.transform.output_len();
        let part_rows = options.part_rows();
        let Filling {
            chunks,
            rows,
            start,
            next,
            ..
        } = batch;
        let has_none = samples.has_none_usable(next) && !options.once;
        let first = open[0] / CHUNK;
        let pixels =
            (chunks[first..].iter_mut()).flat_map(|chunk| chunk.bytes.chunks_exact_mut(image_len));
        let slots = (first * CHUNK..).zip(pixels.zip(&mut rows[first * CHUNK..]));
        let slots = slots.filter(|(slot, _)| open.binary_search(slot).is_ok());
        let mut work = Vec::with_capacity(open.len());
        for (slot, (pixels, row)) in slots {
            let part = slot / part_rows;
            let at = next.parts[part].samples;
            // What is read once replaces nothing: a row is its own sample's.
            let own = start.parts[part].samples + slot;
            if options.once && (at > own || at >= samples.order(part).len()) {
                break;
            }
            let tries = at - start.parts[part].samples;
            if has_none || tries >= samples.most_tries(part, part_rows) {
                return Err(LoaderError::TooFewUsable {
                    batch_size: options.batch_size,
                });
            }
            next.parts[part].samples += 1;
            let item = samples.item(part, at)?;
            let place = samples.order(part).place(at);
            work.push(Work {
                slot,
                pixels,
                row,
                part,
                at,
                place,
                item,
            });
        }
        Ok(work)
    }

    /// Checks the loader's own parts; those of other ranks are unknown here.
    fn check_skipped(
        &self,
        position: &LoaderState,
        causes: &Causes,
        skipped: &mut Vec<(usize, Skipped)>,
    ) -> Result<(), LoaderError> {
        let options = &self.options;
        let bad = (position.skipped(), position.lost());
        let (epoch, epoch_len) = (position.epoch, options.order.epoch_len);
        let Some(mut error) = check_skipped(epoch, epoch_len, bad, options.max_skipped) else {
            return Ok(());
        };
        if let LoaderError::TooManySkipped {
            causes: text, list, ..
        } = &mut error
        {
            let causes = causes.iter().map(|(cause, n)| format!("{n} {cause}"));
            *text = causes.collect::<Vec<_>>().join(", ");
            *list = by_part(std::mem::take(skipped));
        }
        Err(error)
    }

    /// Reads, decodes, transforms and tokenizes one sample into its slot.
    /// - place: of the sample in the epoch, which keys its random draws.
    fn load(
        &self,
        item: Item,
        (epoch, place): (u64, usize),
        pixels: &mut [u8],
        row: &mut Row,
    ) -> Result<(), Skipped> {
        let options = &self.options;
        *row = self.dataset.attempt(item, epoch, |read| {
            let clock = &self.clock;
            let sample = clock.run(Stage::Read, read)?;
            let mut rng = stream(options.order.seed, Purpose::Augment, epoch, place as u64);
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
            clock.run(Stage::Transform, transform);
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

/// The rows that are filled together, from the first to the last: at least a chunk, so that all threads have
/// work, of pieces that belong to different parts. A part's rows are cut from its own first one, so that
/// what replaces a bad sample does not depend on where in a batch the part is.
fn groups(parts: usize, part_rows: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut begins = 0;
    for part in 0..parts {
        for first in (0..part_rows).step_by(CHUNK) {
            let end = part * part_rows + part_rows.min(first + CHUNK);
            let is_last = end == parts * part_rows;
            if end - begins >= CHUNK || is_last {
                groups.push(begins..end);
                begins = end;
            }
        }
    }
    groups
}

/// Bad samples in the order of parts: the same however many parts were filled at once.
fn by_part(mut skipped: Vec<(usize, Skipped)>) -> Vec<Skipped> {
    skipped.sort_by_key(|(part, _)| *part);
    skipped.into_iter().map(|(_, skipped)| skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_filled_in_groups_that_hold_one_piece_of_a_part_at_most() {
        assert_eq!(groups(1, 300), [0..128, 128..256, 256..300]);
        assert!(groups(64, 1).into_iter().eq(std::iter::once(0..64)));
        assert_eq!(groups(4, 100), [0..200, 200..400]);
        assert_eq!(groups(3, 96), [0..192, 192..288]);
        assert_eq!(groups(2, 200), [0..128, 128..328, 328..400]);
    }
}
