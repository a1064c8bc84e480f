//! How an evaluation is divided among the ranks of a run. What carries the bytes is unknown here.

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// The last byte of a message that holds what a rank has computed.
const COMPUTED: u8 = 0;
/// The last byte of a message that holds a rank's error, in words.
const FAILED: u8 = 1;

/// The ranks that an evaluation is divided among, as one of them sees them.
///
/// Each rank computes the features of its share; then one exchange gives everyone the features of all, and
/// every rank goes on as if it were alone. All ranks have the same model. A rank that fails exchanges its error, so that all ranks return,
/// and with the same error.
pub trait Division: Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn ranks(&self) -> usize;

    /// Everyone's bytes, of any lengths, in the order of ranks. All ranks call it equally often.
    ///
    /// # Errors
    /// If the ranks cannot exchange anything more.
    fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, Box<dyn Error + Send + Sync>>;
}

impl fmt::Debug for dyn Division + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.ranks())
    }
}

/// Why the ranks have no result.
#[derive(Debug, thiserror::Error)]
pub enum DivisionError {
    /// The lowest rank that failed; the same on every rank.
    #[error("rank {rank}: {message}")]
    Rank { rank: usize, message: String },
    /// The ranks do not evaluate the same; the same on every rank.
    #[error(
        "rank {rank}: {what} differs from that of rank 0; give all ranks the same files and the same config"
    )]
    Differs { rank: usize, what: String },
    #[error("the ranks could not exchange what they had evaluated")]
    Exchange(#[source] Box<dyn Error + Send + Sync>),
}

impl dyn Division + '_ {
    /// The items that a rank computes: neighbouring ones, in whole units but for the last item's.
    /// - unit: the number of items that the model gets at once, so that it gets the same ones for any
    ///   number of ranks.
    /// - returns a range of items, empty if there are more ranks than units.
    pub fn share(&self, rank: usize, items: usize, unit: usize) -> Range<usize> {
        let units = items.div_ceil(unit);
        // Rank 0, which shows the progress, has the most.
        let first = |rank: usize| (units * rank).div_ceil(self.ranks());
        let item = |at: usize| (at * unit).min(items);
        item(first(rank))..item(first(rank + 1))
    }

    /// What every rank has computed, in the order of ranks.
    /// - own: bytes, or why there are none, in words.
    ///
    /// # Errors
    /// If a rank has failed, or the exchange has. The first is the same on every rank.
    pub fn gather_results(
        &self,
        own: Result<Vec<u8>, String>,
    ) -> Result<Vec<Vec<u8>>, DivisionError> {
        let (mut message, state) = match own {
            Ok(bytes) => (bytes, COMPUTED),
            Err(words) => (words.into_bytes(), FAILED),
        };
        message.push(state);
        let mut all = self.gather(message).map_err(DivisionError::Exchange)?;
        if all.len() != self.ranks() {
            let count = format!("{} messages of {} ranks", all.len(), self.ranks());
            return Err(DivisionError::Exchange(count.into()));
        }
        for (rank, message) in all.iter_mut().enumerate() {
            match message.pop() {
                Some(COMPUTED) => {}
                Some(FAILED) => {
                    let message = String::from_utf8_lossy(message).into_owned();
                    return Err(DivisionError::Rank { rank, message });
                }
                _ => return Err(other_program(rank)),
            }
        }
        Ok(all)
    }
}

/// The error for a message that this program does not write.
pub(crate) fn other_program(rank: usize) -> DivisionError {
    let what = "the version of the program".into();
    DivisionError::Differs { rank, what }
}

/// Appends values to a message, 4 bytes each, little-endian.
pub fn append_values(message: &mut Vec<u8>, values: &[f32]) {
    // One more for the message's state.
    message.reserve(values.len() * 4 + 1);
    message.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Reads values as [`append_values`] writes them.
/// - bytes: a multiple of 4 of them.
pub fn read_values(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    let values = bytes.chunks_exact(4);
    values.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
pub(crate) mod threads {
    //! Ranks as threads of one process.

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier, Mutex};

    use super::{Division, Error};

    /// One of several threads.
    pub struct Threads {
        rank: usize,
        shared: Arc<Shared>,
        /// How often it has gathered.
        gathered: AtomicUsize,
        /// The exchange that fails, on every rank, counted from 0.
        fails_at: Option<usize>,
    }

    struct Shared {
        barrier: Barrier,
        messages: Mutex<Vec<Vec<u8>>>,
    }

    impl Threads {
        /// Creates a handle for each of `ranks` threads.
        pub fn team(ranks: usize, fails_at: Option<usize>) -> Vec<Self> {
            let shared = Arc::new(Shared {
                barrier: Barrier::new(ranks),
                messages: Mutex::new(vec![Vec::new(); ranks]),
            });
            let rank = |rank| Self {
                rank,
                shared: shared.clone(),
                gathered: AtomicUsize::new(0),
                fails_at,
            };
            (0..ranks).map(rank).collect()
        }

        /// Runs `work` on every rank.
        /// - returns what the ranks return, and how often each has gathered.
        pub fn run<T: Send>(
            ranks: usize,
            fails_at: Option<usize>,
            work: impl Fn(&dyn Division) -> T + Sync,
        ) -> (Vec<T>, Vec<usize>) {
            let team = Self::team(ranks, fails_at);
            let results = std::thread::scope(|scope| {
                let ranks: Vec<_> = (team.iter()).map(|own| scope.spawn(|| work(own))).collect();
                let joined = ranks.into_iter().map(|rank| rank.join().unwrap());
                joined.collect()
            });
            let gathered = team.iter().map(|own| own.gathered.load(Ordering::Relaxed));
            (results, gathered.collect())
        }
    }

    impl Division for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn ranks(&self) -> usize {
            self.shared.messages.lock().unwrap().len()
        }

        fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, Box<dyn Error + Send + Sync>> {
            let at = self.gathered.fetch_add(1, Ordering::Relaxed);
            if self.fails_at == Some(at) {
                return Err("rank 1 has ended".into());
            }
            self.shared.messages.lock().unwrap()[self.rank] = own;
            self.shared.barrier.wait();
            let all = self.shared.messages.lock().unwrap().clone();
            // Nobody may write a next message before all have read this one.
            self.shared.barrier.wait();
            Ok(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::threads::Threads;
    use super::*;

    #[test]
    fn shares_are_whole_units_and_cover_every_item_in_order() {
        for ranks in [1, 2, 3, 5, 8] {
            let team = Threads::team(ranks, None);
            let division: &dyn Division = &team[0];
            for (items, unit) in [(0, 4), (1, 4), (4, 4), (9, 4), (157, 8), (64, 1)] {
                let shares = (0..ranks).map(|rank| division.share(rank, items, unit));
                let shares: Vec<_> = shares.collect();
                let mut end = 0;
                for share in &shares {
                    assert_eq!(share.start, end);
                    assert!(share.is_empty() || share.start.is_multiple_of(unit));
                    end = share.end;
                }
                assert_eq!(end, items);
                let sizes = shares.iter().map(|share| share.len().div_ceil(unit));
                let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
                assert!(most - least <= 1, "{shares:?}");
                assert_eq!(shares[0].len().div_ceil(unit), most, "rank 0 has the most");
            }
        }
    }

    #[test]
    fn the_lowest_rank_that_fails_is_everyones_error() {
        let (errors, gathered) = Threads::run(4, None, |division| {
            let own = match division.rank() {
                rank @ (1 | 3) => Err(format!("no disk {rank}")),
                rank => Ok(vec![1; rank]),
            };
            division.gather_results(own).unwrap_err().to_string()
        });
        assert_eq!(errors, ["rank 1: no disk 1"; 4]);
        assert_eq!(gathered, [1; 4]);
        let (all, _) = Threads::run(3, None, |division| {
            let own = vec![7; division.rank()];
            division.gather_results(Ok(own)).unwrap()
        });
        assert!(all.iter().all(|all| *all == [vec![], vec![7], vec![7, 7]]));
    }

    #[test]
    fn values_keep_their_bits() {
        let values = [1.5, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX];
        let mut bytes = vec![9];
        append_values(&mut bytes, &values);
        let back: Vec<f32> = read_values(&bytes[1..]).collect();
        assert_eq!(
            values.map(f32::to_bits).to_vec(),
            back.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
    }
}
