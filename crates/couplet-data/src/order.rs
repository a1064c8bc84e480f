//! The order of samples: a pure function of (seed, epoch, number of samples).

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::draw::{Purpose, stream};

/// How an epoch draws from a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Samples in the set.
    pub len: usize,
    /// Samples an epoch takes.
    pub epoch_len: usize,
    /// Draw with replacement rather than by permutation.
    pub resample: bool,
    pub seed: u64,
}

impl Order {
    /// The samples of one epoch, in order.
    ///
    /// Without replacement, epochs are consecutive pieces of one endless sequence of
    /// permutations, so that every sample has been seen `k` times before any is seen
    /// `k + 2` times, whatever `epoch_len` is.
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
    fn an_epoch_may_be_longer_than_the_set() {
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
}
