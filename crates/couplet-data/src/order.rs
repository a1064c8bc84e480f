//! The order of samples: a pure function of (seed, epoch, number of samples), and how the parts of a
//! batch share it.

use std::ops::Range;

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::draw::{Purpose, stream};

/// How an epoch draws samples from a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The number of samples in the dataset.
    pub len: usize,
    /// The number of samples per epoch.
    pub epoch_len: usize,
    /// Draw with replacement instead of permuting.
    pub resample: bool,
    pub seed: u64,
}

/// The equal parts of every batch, and those of them that a loader fills.
///
/// Each part has its own order of samples, replaces its own bad samples and has its own position. So a
/// batch is the same however many ranks share it: a rank fills neighbouring parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The number of parts of a batch, of all ranks together.
    pub total: usize,
    /// The parts that the loader fills, counted from 0.
    pub own: Range<usize>,
}

impl Parts {
    /// A batch in one part.
    pub const ONE: Self = Self {
        total: 1,
        own: 0..1,
    };

    /// All parts of a batch.
    pub fn all(total: usize) -> Self {
        Self {
            total,
            own: 0..total,
        }
    }
}

/// The samples of one part of every batch, counted from 0 in each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartOrder {
    pub part: usize,
    /// The number of parts of a batch.
    pub parts: usize,
    /// The number of samples per epoch, of all parts.
    pub epoch_len: usize,
    /// The rows of a batch that are the part's.
    rows: usize,
    /// The number of the part's rows in all complete batches of an epoch.
    own_len: usize,
}

impl PartOrder {
    /// - batch_size: of all parts together; a multiple of their number.
    pub fn new(part: usize, parts: usize, batch_size: usize, epoch_len: usize) -> Self {
        let rows = (batch_size / parts).max(1);
        Self {
            part,
            parts,
            epoch_len,
            rows,
            own_len: epoch_len / (rows * parts) * rows,
        }
    }

    /// The place of the part's sample number `at` among the samples of all parts; no two parts have the
    /// same. First come the part's rows of every complete batch, then, for parts with bad samples, the
    /// samples that fill no batch, and after the epoch's end places without end.
    pub fn place(&self, at: usize) -> usize {
        if let Some(extra) = at.checked_sub(self.own_len) {
            return (self.own_len + extra) * self.parts + self.part;
        }
        let batch = at / self.rows * self.rows * self.parts;
        batch + self.part * self.rows + at % self.rows
    }

    /// Whether the part's sample number `at` is one of the epoch's. Those after it are samples that the
    /// epoch has had already.
    pub fn is_in_epoch(&self, at: usize) -> bool {
        self.place(at) < self.epoch_len
    }

    /// The number of the epoch's samples that are the part's.
    pub fn len(&self) -> usize {
        let left = self.epoch_len - self.own_len * self.parts;
        self.own_len + (left + self.parts - 1 - self.part) / self.parts
    }

    /// The part's sample number `at`, counted among those of the epoch, which begins again after its end.
    /// If the number of parts and the epoch's length have a common divisor, a part would meet the same
    /// samples, perhaps all bad, each time: so it moves on by one.
    pub fn index(&self, at: usize) -> usize {
        let place = self.place(at);
        let divisor = num_integer::gcd(self.parts, self.epoch_len);
        let shift = place / (self.parts / divisor * self.epoch_len) % divisor;
        (place + shift) % self.epoch_len
    }
}

impl Order {
    /// The samples of one epoch, of all parts, in order.
    ///
    /// Without replacement, epochs are consecutive pieces of an endless sequence of permutations: every
    /// sample has been seen `k` times before any is seen `k + 2` times, for any `epoch_len`.
    pub fn epoch(&self, epoch: u64) -> Vec<usize> {
        if self.resample {
            let mut rng = stream(self.seed, Purpose::Resample, epoch, 0);
            return (0..self.epoch_len)
                .map(|_| rng.random_range(0..self.len))
                .collect();
        }
        let (len, epoch_len) = (self.len as u128, self.epoch_len as u128);
        let first = u128::from(epoch) * epoch_len;
        let mut pass = u64::try_from(first / len).unwrap_or(u64::MAX);
        let mut skip = usize::try_from(first % len).unwrap_or(0);
        let mut samples = Vec::with_capacity(self.epoch_len);
        while samples.len() < self.epoch_len {
            let permutation = self.permutation(pass);
            let take = (self.epoch_len - samples.len()).min(self.len - skip);
            samples.extend_from_slice(&permutation[skip..skip + take]);
            skip = 0;
            pass += 1;
        }
        samples
    }

    fn permutation(&self, pass: u64) -> Vec<usize> {
        let mut samples: Vec<usize> = (0..self.len).collect();
        samples.shuffle(&mut stream(self.seed, Purpose::Order, pass, 0));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(len: usize, epoch_len: usize) -> Order {
        Order {
            len,
            epoch_len,
            resample: false,
            seed: 7,
        }
    }

    #[test]
    fn a_whole_epoch_is_a_permutation_and_epochs_differ() {
        let order = order(100, 100);
        let (mut first, second) = (order.epoch(0), order.epoch(1));
        assert_ne!(first, second);
        assert_eq!(first, order.epoch(0));
        first.sort_unstable();
        assert_eq!(first, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn short_epochs_continue_the_same_permutation() {
        let order = order(10, 4);
        let mut seen: Vec<usize> = (0..5).flat_map(|epoch| order.epoch(epoch)).collect();
        assert_eq!(seen.len(), 20);
        let mut pass = seen.drain(..10).collect::<Vec<_>>();
        pass.sort_unstable();
        seen.sort_unstable();
        assert_eq!(pass, (0..10).collect::<Vec<_>>());
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn an_epoch_may_be_longer_than_the_dataset() {
        let mut samples = order(3, 9).epoch(5);
        samples.sort_unstable();
        assert_eq!(samples, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn resampling_repeats_within_an_epoch() {
        let order = Order {
            resample: true,
            ..order(4, 64)
        };
        assert_eq!(order.epoch(1), order.epoch(1));
        assert!(order.epoch(1).iter().all(|sample| *sample < 4));
    }

    fn part(part: usize, parts: usize, batch_size: usize, epoch_len: usize) -> PartOrder {
        PartOrder::new(part, parts, batch_size, epoch_len)
    }

    #[test]
    fn parts_take_neighbouring_rows_of_every_batch_and_together_the_epoch() {
        for (parts, batch_size, epoch_len) in [(1, 8, 50), (3, 12, 50), (4, 12, 48), (6, 6, 11)] {
            let orders: Vec<_> = (0..parts)
                .map(|at| part(at, parts, batch_size, epoch_len))
                .collect();
            let mut places = Vec::new();
            for order in &orders {
                places.extend((0..order.len()).map(|at| order.place(at)));
                assert!((0..order.len()).all(|at| order.is_in_epoch(at)));
                assert!(!order.is_in_epoch(order.len()));
                assert!((0..order.len()).all(|at| order.index(at) == order.place(at)));
            }
            places.sort_unstable();
            assert_eq!(places, (0..epoch_len).collect::<Vec<_>>());
            let rows = batch_size / parts;
            let first = orders
                .iter()
                .flat_map(|order| (0..rows).map(|at| order.place(at)));
            assert!(first.eq(0..batch_size));
        }
        // The sixth sample of the second of three parts is the second of its second batch.
        assert_eq!(part(1, 3, 12, 50).place(5), 12 + 4 + 1);
    }

    #[test]
    fn one_part_is_the_epoch_again_and_again() {
        let order = part(0, 1, 8, 50);
        assert!((0..500).all(|at| order.index(at) == at % 50 && order.place(at) == at));
    }

    #[test]
    fn a_part_meets_every_sample_of_the_epoch_however_many_are_bad() {
        for (parts, batch_size, epoch_len) in [(64, 64, 64), (4, 8, 24), (6, 12, 20), (64, 64, 96)]
        {
            for at_part in 0..parts {
                let order = part(at_part, parts, batch_size, epoch_len);
                let mut met: Vec<_> = (0..2 * epoch_len).map(|at| order.index(at)).collect();
                met.sort_unstable();
                met.dedup();
                assert_eq!(met.len(), epoch_len, "part {at_part} of {parts}");
            }
        }
    }
}
