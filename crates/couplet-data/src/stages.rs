//! The time that the loader spends in each stage.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A stage of loading a sample, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading from storage, or drawing.
    Read,
    Decode,
    /// Augmenting and resizing.
    Transform,
    Tokenize,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Read, Self::Decode, Self::Transform, Self::Tokenize];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reading",
            Self::Decode => "decoding",
            Self::Transform => "resizing and augmenting",
            Self::Tokenize => "tokenizing",
        })
    }
}

/// The time spent in each stage, summed over all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes([Duration; 4]);

impl StageTimes {
    /// The time of one stage, summed over all threads.
    pub fn get(&self, stage: Stage) -> Duration {
        self.0[stage as usize]
    }

    /// The time of all stages, summed over all threads.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// The stage with the most time.
    pub fn slowest(&self) -> Stage {
        let times = Stage::ALL.into_iter();
        times
            .max_by_key(|stage| self.get(*stage))
            .unwrap_or(Stage::Read)
    }

    /// The time spent since an earlier measurement.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs: [usize; 4] = [0, 1, 2, 3];
        Self(pairs.map(|at| self.0[at].saturating_sub(earlier.0[at])))
    }
}

/// Sums the time that all threads spend.
#[derive(Debug, Default)]
pub struct StageClock([AtomicU64; 4]);

impl StageClock {
    /// Runs and times one stage of one sample.
    pub(crate) fn run<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let outcome = work();
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0[stage as usize].fetch_add(nanoseconds, Ordering::Relaxed);
        outcome
    }

    /// The time of each stage so far.
    pub fn times(&self) -> StageTimes {
        let read = |at: usize| Duration::from_nanos(self.0[at].load(Ordering::Relaxed));
        StageTimes([0, 1, 2, 3].map(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_for_its_stage() {
        let clock = StageClock::default();
        let before = clock.times();
        clock.run(Stage::Decode, || {
            std::thread::sleep(Duration::from_millis(5));
        });
        assert_eq!(clock.run(Stage::Tokenize, || 7), 7);
        let spent = clock.times().since(&before);
        assert_eq!(spent.slowest(), Stage::Decode);
        assert!(spent.get(Stage::Decode) >= Duration::from_millis(5));
        assert_eq!(spent.get(Stage::Read), Duration::ZERO);
        assert!(spent.total() >= spent.get(Stage::Decode));
    }
}
