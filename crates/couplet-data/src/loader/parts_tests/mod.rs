//! Whatever the number of ranks, batches are the same.

mod indexed;
mod streams;

use image::RgbImage;

use super::*;
use crate::order::{Order, Parts};
use crate::sample::{ImageData, Sample};
use crate::transform::Transform;
use crate::{Augment, Interpolation, ResizeMode, Tokenizer};

/// A batch of all ranks, with the position after it.
#[derive(Debug, Clone, PartialEq)]
struct Whole {
    pixels: Vec<u8>,
    captions: Vec<Vec<i32>>,
    labels: Vec<i32>,
    skipped: Vec<String>,
    next: LoaderState,
}

#[derive(Clone)]
struct Case {
    dataset: PairDataset,
    len: usize,
    epoch_len: usize,
    batch_size: usize,
    resample: bool,
}

const IMAGE_SIZE: u32 = 8;
const PARTS: usize = 8;

impl Case {
    fn start(&self, own: std::ops::Range<usize>, position: LoaderState) -> Loader {
        let augment = Augment {
            horizontal_flip: 0.5,
            ..Augment::default()
        };
        let transform = Transform::eval(IMAGE_SIZE, ResizeMode::Shortest, Interpolation::Bicubic);
        let options = LoaderOptions {
            order: Order {
                len: self.len,
                epoch_len: self.epoch_len,
                resample: self.resample,
                seed: 5,
            },
            parts: Parts { total: PARTS, own },
            batch_size: self.batch_size,
            transform: transform.augmented(&augment),
            tokens: TokenOptions {
                tokenizer: Tokenizer::clip(),
                context_length: 12,
                pad_id: 0,
                cut: true,
            },
            max_image_pixels: 1 << 20,
            dct_scaling: false,
            max_skipped: 0.9,
            threads: 2,
            once: false,
        };
        Loader::start(self.dataset.clone(), options, position).unwrap()
    }

    /// The next batches of `ranks` ranks from a position, put together.
    fn take(&self, ranks: usize, position: &LoaderState, batches: usize) -> Vec<Whole> {
        let each = PARTS / ranks;
        let loaders: Vec<_> = (0..ranks)
            .map(|rank| {
                let own = rank * each..(rank + 1) * each;
                self.start(own.clone(), position.split(own))
            })
            .collect();
        (0..batches)
            .map(|_| {
                let own: Vec<_> = loaders
                    .iter()
                    .map(|loader| loader.next_batch().unwrap())
                    .collect();
                let (mut whole, mut next) = (Whole::empty(), Vec::new());
                for batch in own {
                    assert_eq!(batch.len(), self.batch_size / ranks);
                    whole.pixels.extend(batch.pixels(0..batch.len()));
                    let rows = (0..batch.len()).map(|row| batch.tokens(row..row + 1).0);
                    whole.captions.extend(rows);
                    whole.labels.extend(&batch.labels);
                    let skipped = batch.skipped.iter();
                    whole
                        .skipped
                        .extend(skipped.map(|one| format!("{} {}", one.shard, one.key)));
                    next.push(batch.next);
                }
                whole.skipped.sort();
                whole.next = LoaderState::merge(next).unwrap();
                whole
            })
            .collect()
    }

    /// Every number of ranks has the batches of one, also from the middle of an epoch with another number.
    /// - returns the batches, for further tests.
    fn check(&self, name: &str) -> Vec<Whole> {
        let start = LoaderState::default();
        let batches = 2 * (self.epoch_len / self.batch_size) + 2;
        let one = self.take(1, &start, batches);
        assert!(one.iter().all(|batch| batch.next.parts.len() == PARTS));
        for ranks in [2, 4, 8] {
            assert_eq!(
                self.take(ranks, &start, batches),
                one,
                "{name}: {ranks} ranks"
            );
        }
        for (stop, before, after) in [(1, 1, 4), (2, 4, 2), (batches - 2, 8, 1)] {
            let begun = self.take(before, &start, stop);
            let saved = serde_json::to_string(&begun[stop - 1].next).unwrap();
            let position = serde_json::from_str(&saved).unwrap();
            let rest = self.take(after, &position, 2);
            assert_eq!(
                rest,
                one[stop..stop + 2],
                "{name}: {before}, then {after} ranks"
            );
        }
        one
    }
}

impl Whole {
    fn empty() -> Self {
        Self {
            pixels: Vec::new(),
            captions: Vec::new(),
            labels: Vec::new(),
            skipped: Vec::new(),
            next: LoaderState::default(),
        }
    }
}

/// An image of two colors, so that a flip shows, whose left level is its index.
fn sample(index: usize) -> Sample {
    let level = u8::try_from(index % 256).unwrap();
    let image = RgbImage::from_fn(IMAGE_SIZE, IMAGE_SIZE, |x, _| {
        [if x < IMAGE_SIZE / 2 {
            level
        } else {
            255 - level
        }; 3]
            .into()
    });
    Sample {
        label: Some(index % 10),
        image: ImageData::Pixels(image),
        caption: "a word ".repeat(index % 5),
    }
}
