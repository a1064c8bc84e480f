//! What a loader is asked for.

use super::batch::TokenOptions;
use super::state::LoaderState;
use crate::order::{Order, PartOrder, Parts};
use crate::transform::Transform;

/// What a loader needs besides its dataset.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    pub order: Order,
    /// The parts of a batch, and those that this loader fills.
    pub parts: Parts,
    /// The batch size of all parts together, a multiple of their number. With one part and `once`, any.
    pub batch_size: usize,
    pub transform: Transform,
    pub tokens: TokenOptions,
    /// Images with more pixels are skipped.
    pub max_image_pixels: u64,
    /// Decode JPEGs at a half, a quarter or an eighth of their size where the result is still as large
    /// as what is cropped from it. It changes pixel values.
    pub dct_scaling: bool,
    /// The largest fraction of an epoch's samples, of all parts, that may be skipped, from 0 to 1.
    pub max_skipped: f64,
    /// Number of decoding threads; 0 for one per core.
    pub threads: usize,
    /// Read one epoch, each sample once, in one part: skipped samples are not replaced, so that a batch holds
    /// the usable ones of `batch_size` neighbouring samples, possibly none.
    pub once: bool,
}

impl LoaderOptions {
    /// The rows of a batch that one part has.
    pub(super) fn part_rows(&self) -> usize {
        self.batch_size / self.parts.total
    }

    /// The rows of a batch that this loader fills.
    pub(super) fn own_rows(&self) -> usize {
        self.part_rows() * self.parts.own.len()
    }

    /// The order of the samples of each own part.
    pub(super) fn part_orders(&self) -> Vec<PartOrder> {
        let (parts, epoch_len) = (self.parts.total, self.order.epoch_len);
        let order = |part| PartOrder::new(part, parts, self.batch_size, epoch_len);
        self.parts.own.clone().map(order).collect()
    }

    /// Whether the epoch has ended. It has the same number of batches on every rank; samples that do
    /// not fill a batch are dropped.
    pub(super) fn is_over(&self, position: &LoaderState) -> bool {
        if self.once {
            position.samples() >= self.order.epoch_len
        } else {
            position.batches >= self.order.epoch_len / self.batch_size
        }
    }
}
