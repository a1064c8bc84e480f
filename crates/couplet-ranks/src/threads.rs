//! Ranks as threads of one process, and faults for tests.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::lost::Lost;
use crate::place::Place;
use crate::wire::{Exchange, Wait, Wire};

/// One of several threads of a process that exchange bytes through memory.
#[derive(Debug)]
pub struct ThreadWire {
    place: Place,
    /// Exchanges so far.
    exchanges: u64,
    fault: Option<Fault>,
    shared: Arc<Shared>,
}

/// What goes wrong with one exchange of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which exchange of the wire, counted from 0.
    pub exchange: u64,
    pub trouble: Trouble,
}

/// How an exchange goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The rank's bytes never arrive.
    Drop,
    /// They arrive late.
    Delay(Duration),
    /// The transport fails on this rank.
    Fail,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Exchanges that not all ranks have left.
    open: HashMap<u64, Open>,
    /// Whether a rank's wire is gone.
    gone: Vec<bool>,
}

#[derive(Debug)]
struct Open {
    /// What each rank has sent.
    sent: Vec<Option<Arc<Vec<u8>>>>,
    left: usize,
}

impl ThreadWire {
    /// The wires of `ranks` threads.
    pub fn team(ranks: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                open: HashMap::new(),
                gone: vec![false; ranks],
            }),
            changed: Condvar::new(),
        });
        let wire = |rank| Self {
            place: Place {
                rank,
                ranks,
                local_rank: rank,
                local_ranks: ranks,
                host: "this process".to_string(),
            },
            exchanges: 0,
            fault: None,
            shared: shared.clone(),
        };
        (0..ranks).map(wire).collect()
    }

    /// The same with a fault.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends bytes, and waits for those of all ranks.
    fn meet(&mut self, own: &[u8], wait: &Wait) -> Result<Vec<Arc<Vec<u8>>>, Lost> {
        /// How often to ask whether the exchange is over.
        const LOOK: Duration = Duration::from_millis(5);
        let at = self.exchanges;
        self.exchanges += 1;
        let trouble = self
            .fault
            .filter(|fault| fault.exchange == at)
            .map(|fault| fault.trouble);
        match trouble {
            Some(Trouble::Fail) => return Err(wait.failed("the wire failed")),
            Some(Trouble::Delay(delay)) => thread::sleep(delay),
            Some(Trouble::Drop) | None => {}
        }
        let ranks = self.place.ranks;
        let mut state = self.state();
        let open = state.open.entry(at).or_insert_with(|| Open {
            sent: vec![None; ranks],
            left: 0,
        });
        if trouble != Some(Trouble::Drop) {
            open.sent[self.place.rank] = Some(Arc::new(own.to_vec()));
            self.shared.changed.notify_all();
        }
        loop {
            let open = state
                .open
                .get_mut(&at)
                .expect("an exchange is open until all have left");
            let all: Option<Vec<_>> = open.sent.iter().cloned().collect();
            if let Some(all) = all {
                open.left += 1;
                if open.left == ranks {
                    state.open.remove(&at);
                }
                return Ok(all);
            }
            let missing: Vec<usize> = (0..ranks)
                .filter(|rank| open.sent[*rank].is_none())
                .collect();
            let gone = missing.iter().find(|rank| state.gone[**rank]);
            if let Some(rank) = gone {
                return Err(wait.ended(*rank));
            }
            if let Some(lost) = wait.over() {
                return Err(wait.without(lost, &missing));
            }
            let waited = self.shared.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Wire for ThreadWire {
    fn place(&self) -> &Place {
        &self.place
    }

    fn exchange(&mut self, exchange: Exchange<'_>, wait: &Wait<'_>) -> Result<(), Lost> {
        let differ = || wait.failed("the ranks exchange slices of different lengths");
        match exchange {
            Exchange::AllGather { own, all } => {
                let parts = self.meet(own, wait)?;
                for (part, to) in parts.iter().zip(all.chunks_exact_mut(own.len().max(1))) {
                    if part.len() != to.len() {
                        return Err(differ());
                    }
                    to.copy_from_slice(part);
                }
            }
            Exchange::AllToAll { own, all } => {
                let piece = own.len() / self.place.ranks;
                let rank = self.place.rank;
                let parts = self.meet(own, wait)?;
                for (part, to) in parts.iter().zip(all.chunks_exact_mut(piece.max(1))) {
                    if part.len() != own.len() {
                        return Err(differ());
                    }
                    to.copy_from_slice(&part[rank * piece..][..piece]);
                }
            }
            Exchange::Broadcast { bytes } => {
                let own = if self.place.is_first() { &*bytes } else { &[] };
                let parts = self.meet(own, wait)?;
                if parts[0].len() != bytes.len() {
                    return Err(differ());
                }
                bytes.copy_from_slice(&parts[0]);
            }
        }
        Ok(())
    }

    /// The others see that this rank is gone.
    fn abort(&mut self, _code: i32) {
        let rank = self.place.rank;
        self.state().gone[rank] = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for ThreadWire {
    fn drop(&mut self) {
        self.abort(0);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Instant;

    use super::*;
    use crate::patience::Patience;
    use crate::team::Team;

    const LIMIT: Duration = Duration::from_millis(400);

    /// Runs `work` on every rank; a fault is of rank 1.
    fn on_ranks<T: Send>(
        ranks: usize,
        fault: Option<Fault>,
        work: impl Fn(Team) -> T + Sync,
    ) -> Vec<T> {
        let wires = ThreadWire::team(ranks);
        thread::scope(|scope| {
            let start = |wire: ThreadWire| {
                let work = &work;
                scope.spawn(move || {
                    let fault = fault.filter(|_| wire.place.rank == 1);
                    let wire = match fault {
                        Some(fault) => wire.with_fault(fault),
                        None => wire,
                    };
                    let team = Team::start(|| Ok::<_, Infallible>(wire), Patience::of(LIMIT));
                    work(team.expect("all ranks start"))
                })
            };
            let threads: Vec<_> = wires.into_iter().map(start).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no rank panics"))
                .collect()
        })
    }

    #[test]
    fn everyone_gets_everything_in_the_order_of_ranks() {
        let found = on_ranks(3, None, |team| {
            let rank = u8::try_from(team.place().rank).unwrap();
            let same = team.all_gather("bytes", vec![rank; 2]);
            // Shorter and longer than one exchange takes.
            let any = team.gather("texts", vec![rank; 700 * usize::from(rank)]);
            let first = team.broadcast("the start", vec![rank + 7; 5]);
            let sum = team.sum("values", (0..5_u8).map(|at| f32::from(rank + at)).collect());
            assert!(team.threads() >= 1);
            assert_eq!(team.peers().len(), 3);
            (
                same.wait().unwrap(),
                any.wait().unwrap(),
                first.wait().unwrap(),
                sum.wait().unwrap(),
            )
        });
        for (same, any, first, sum) in found {
            assert_eq!(same, [0, 0, 1, 1, 2, 2]);
            assert_eq!(any, [vec![], vec![1; 700], vec![2; 1400]]);
            assert_eq!(first, [7; 5]);
            assert_eq!(sum, [3.0, 6.0, 9.0, 12.0, 15.0]);
        }
    }

    #[test]
    fn a_rank_that_does_not_come_is_named_and_nobody_hangs() {
        // The first exchange is that of the start.
        for (trouble, all_lost) in [
            (Trouble::Drop, true),
            (Trouble::Fail, true),
            (Trouble::Delay(LIMIT / 8), false),
        ] {
            let begun = Instant::now();
            let fault = Fault {
                exchange: 1,
                trouble,
            };
            let found = on_ranks(3, Some(fault), |team| {
                let first = team.sum("the first", vec![1.0; 4]).wait();
                let second = team.sum("the second", vec![1.0; 4]).wait();
                // Nothing comes after a loss.
                assert_eq!(first.is_err(), second.is_err());
                first
            });
            assert!(begun.elapsed() < LIMIT * 10);
            for (rank, result) in found.into_iter().enumerate() {
                assert_eq!(result.is_err(), all_lost, "{trouble:?}: {result:?}");
                if let (Err(lost), true) = (result, rank != 1) {
                    assert!(lost.to_string().contains("rank 1 "), "{lost}");
                    assert_eq!(lost.what, "the first");
                }
            }
        }
    }

    #[test]
    fn a_rank_that_leaves_is_noticed_at_once() {
        let begun = Instant::now();
        let found = on_ranks(2, None, |team| {
            if team.place().rank == 1 {
                return None;
            }
            Some(team.all_gather("the rest", vec![0]).wait())
        });
        assert!(begun.elapsed() < LIMIT);
        let lost = found[0].as_ref().unwrap().as_ref().unwrap_err();
        assert!(lost.to_string().starts_with("rank 1 (process"), "{lost}");
    }

    #[test]
    fn whoever_was_asked_to_stop_waits_less() {
        let wires = ThreadWire::team(2);
        let [first, _second] = <[ThreadWire; 2]>::try_from(wires).unwrap();
        let patience = Patience {
            limit: Duration::from_mins(10),
            stop: Arc::new(|| true),
            after_stop: Duration::from_millis(200),
        };
        let team = Team::start(|| Ok::<_, Infallible>(first), patience);
        let error = team.unwrap_err().to_string();
        assert!(error.contains("signal to stop"), "{error}");
    }
}
