//! The order of samples: a pure function of (seed, epoch, number of samples).

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
    pub share: Share,
}

/// One rank's part of every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Counted from 0.
    pub rank: usize,
    pub ranks: usize,
    /// The number of pairs in the batch of all ranks together, a multiple of `ranks`.
    pub global_batch: usize,
}

impl Share {
    /// All samples, in batches of any size.
    pub const ALL: Self = Self {
        rank: 0,
        ranks: 1,
        global_batch: 1,
    };

    /// The position, among the samples of all ranks, of the rank's sample number `at`.
    pub(crate) fn place(&self, at: usize) -> usize {
        if self.ranks == 1 {
            return at;
        }
        let own = self.global_batch / self.ranks;
        at / own * self.global_batch + self.rank * own + at % own
    }
}

impl Order {
    /// The samples of one epoch that this rank reads, in order: its rows of every complete batch, so
    /// that all ranks have the same number of batches; with one rank, all samples.
    pub fn epoch(&self, epoch: u64) -> Vec<usize> {
        let all = self.whole_epoch(epoch);
        let Share {
            rank,
            ranks,
            global_batch,
        } = self.share;
        if ranks == 1 {
            return all;
        }
        let own = global_batch / ranks;
        let rows = rank * own..(rank + 1) * own;
        let batches = all.chunks_exact(global_batch);
        batches
            .flat_map(|batch| &batch[rows.clone()])
            .copied()
            .collect()
    }

    /// The samples of one epoch, of all ranks.
    ///
    /// Without replacement, epochs are consecutive pieces of an endless sequence of permutations: every
    /// sample has been seen `k` times before any is seen `k + 2` times, for any `epoch_len`.
    fn whole_epoch(&self, epoch: u64) -> Vec<usize> {
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
            share: Share::ALL,
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

    #[test]
    fn ranks_share_every_batch_and_have_the_same_number() {
        let whole = order(50, 50);
        let ranks: Vec<Vec<usize>> = (0..3)
            .map(|rank| {
                let share = Share {
                    rank,
                    ranks: 3,
                    global_batch: 12,
                };
                Order { share, ..whole }.epoch(2)
            })
            .collect();
        assert!(ranks.iter().all(|own| own.len() == 16));
        // The first batch, reassembled.
        let first: Vec<usize> = ranks.iter().flat_map(|own| &own[..4]).copied().collect();
        assert_eq!(first, whole.epoch(2)[..12]);
        // The second rank's sixth sample is the second of its second batch.
        let share = Share {
            rank: 1,
            ranks: 3,
            global_batch: 12,
        };
        assert_eq!(share.place(5), 12 + 4 + 1);
        assert_eq!(ranks[1][5], whole.epoch(2)[share.place(5)]);
    }
}
