//! How long exchanges wait, and what a rank's threads share about it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::lost::{Cause, Lost, Missing};
use crate::peers::Peer;

/// How long exchanges wait for the other ranks.
#[derive(Clone)]
pub struct Patience {
    /// The longest wait in which no exchange ends. An evaluation or a checkpoint of rank 0 must fit in.
    pub limit: Duration,
    /// Whether this rank was asked to stop, as by a signal.
    pub stop: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The longest wait once it was: long enough for ranks in step, short enough to save before a launcher
    /// that has lost a rank kills the others.
    pub after_stop: Duration,
}

impl Patience {
    /// Waits for `limit`, and is never asked to stop.
    pub fn of(limit: Duration) -> Self {
        Self {
            limit,
            stop: Arc::new(|| false),
            after_stop: limit,
        }
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("limit", &self.limit)
            .field("after_stop", &self.after_stop)
            .finish_non_exhaustive()
    }
}

/// An exchange, to those who wait for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// What is exchanged.
    pub what: &'static str,
    /// Whether it is waited for as long after a signal to stop as before.
    pub is_patient: bool,
}

impl Purpose {
    /// Of an exchange that a signal to stop shortens.
    pub const fn hasty(what: &'static str) -> Self {
        let is_patient = false;
        Self { what, is_patient }
    }
}

/// What the rank's threads share with the conductor.
#[derive(Debug)]
pub(crate) struct Shared {
    patience: Patience,
    lost: Mutex<Option<Lost>>,
    abort: Mutex<Option<i32>>,
    aborts: Condvar,
    stop_seen: Mutex<Option<Instant>>,
    death_seen: OnceLock<()>,
    peers: OnceLock<Vec<Peer>>,
    /// Those whose processes can be seen from here.
    watched: OnceLock<Vec<Peer>>,
    /// When an exchange has ended last.
    progress: Mutex<Instant>,
}

impl Shared {
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            lost: Mutex::new(None),
            abort: Mutex::new(None),
            aborts: Condvar::new(),
            stop_seen: Mutex::new(None),
            death_seen: OnceLock::new(),
            peers: OnceLock::new(),
            watched: OnceLock::new(),
            progress: Mutex::new(Instant::now()),
        }
    }

    /// An exchange has ended, so all ranks are there: whoever waits for a later one begins to wait now.
    pub fn note_progress(&self) {
        *locked(&self.progress) = Instant::now();
    }

    /// Since when nothing has ended for one that waits since `started`.
    pub fn waiting_since(&self, started: Instant) -> Instant {
        started.max(*locked(&self.progress))
    }

    /// The longest wait.
    #[cfg(any(feature = "nccl", test))]
    pub fn limit(&self) -> Duration {
        self.patience.limit
    }

    pub fn set_peers(&self, peers: Vec<Peer>, own: &Peer) {
        let is_watched = |peer: &&Peer| peer.is_visible(&own.host);
        let watched = peers.iter().filter(is_watched).cloned().collect();
        let _ = self.watched.set(watched);
        let _ = self.peers.set(peers);
    }

    pub fn peers(&self) -> &[Peer] {
        self.peers.get().map_or(&[], Vec::as_slice)
    }

    /// The ranks with their processes and hosts.
    pub fn missing(&self, ranks: &[usize]) -> Vec<Missing> {
        let missing = |rank: &usize| {
            let peer = self.peers().get(*rank);
            let name = peer.map_or_else(|| format!("rank {rank}"), Peer::to_string);
            Missing { rank: *rank, name }
        };
        ranks.iter().map(missing).collect()
    }

    /// Records the first loss.
    pub fn lose(&self, lost: Lost) {
        locked(&self.lost).get_or_insert(lost);
    }

    pub fn lost(&self) -> Option<Lost> {
        locked(&self.lost).clone()
    }

    /// The ranks whose processes are seen to be gone.
    pub fn ended(&self) -> Vec<usize> {
        let watched = self.watched.get().map_or(&[][..], Vec::as_slice);
        let ended = watched.iter().filter(|peer| !peer.runs());
        ended.map(|peer| peer.rank).collect()
    }

    /// Why an exchange that has waited for so long should be given up.
    pub fn cause_to_give_up(&self, purpose: Purpose, waited: Duration) -> Option<Cause> {
        /// Between the deaths of processes that one cause kills: the kernel frees their memory first.
        const TOGETHER: Duration = Duration::from_millis(50);
        if !self.ended().is_empty() {
            self.death_seen.get_or_init(|| thread::sleep(TOGETHER));
            let gone = self.missing(&self.ended());
            return Some(Cause::Ended { gone });
        }
        let Patience {
            limit,
            stop,
            after_stop,
        } = &self.patience;
        if waited >= *limit {
            let (after, absent) = (*limit, Vec::new());
            return Some(Cause::Late { after, absent });
        }
        if !purpose.is_patient && stop() {
            let since = *locked(&self.stop_seen).get_or_insert_with(Instant::now);
            if waited >= *after_stop && since.elapsed() >= *after_stop {
                return Some(Cause::Stopped { after: *after_stop });
            }
        }
        None
    }

    pub fn order_abort(&self, code: i32) {
        *locked(&self.abort) = Some(code);
        self.aborts.notify_all();
    }

    pub fn abort_ordered(&self) -> Option<i32> {
        *locked(&self.abort)
    }

    /// Blocks until the rank orders to abort.
    pub fn wait_for_abort(&self) -> i32 {
        let mut order = locked(&self.abort);
        loop {
            if let Some(code) = *order {
                return code;
            }
            order = (self.aborts.wait(order)).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
