//! Ranks as threads of one process, and faults for tests.

#[cfg(test)]
mod tests;

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
    gone: Vec<Gone>,
}

/// Whether a rank's wire is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    No,
    Left,
    /// It ends all, with this exit code.
    Aborted(i32),
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
                gone: vec![Gone::No; ranks],
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
            let mut aborted = missing.iter().filter_map(|rank| match state.gone[*rank] {
                Gone::Aborted(code) => Some((*rank, code)),
                Gone::No | Gone::Left => None,
            });
            if let Some((rank, code)) = aborted.next() {
                return Err(wait.aborted(rank, code));
            }
            let is_gone = |rank: &usize| state.gone[*rank] != Gone::No;
            let gone: Vec<usize> = missing.iter().copied().filter(is_gone).collect();
            if !gone.is_empty() {
                return Err(wait.ended(&gone));
            }
            if wait.abort_ordered().is_some() {
                return Err(wait.failed("this rank aborts"));
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

    fn abandon(&mut self) {
        self.leave(Gone::Left);
    }

    fn abort(&mut self, code: i32) {
        self.leave(Gone::Aborted(code));
    }
}

impl ThreadWire {
    /// The others see that this rank is gone.
    fn leave(&self, gone: Gone) {
        let rank = self.place.rank;
        let mut state = self.state();
        if state.gone[rank] == Gone::No {
            state.gone[rank] = gone;
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for ThreadWire {
    fn drop(&mut self) {
        self.leave(Gone::Left);
    }
}
