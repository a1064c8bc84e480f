//! What carries bytes between ranks.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::lost::{Cause, Lost};
use crate::patience::Shared;
use crate::place::Place;

/// An exchange of bytes. All ranks run the same ones in the same order, with slices of the same lengths.
#[derive(Debug)]
pub enum Exchange<'a> {
    /// Everyone gets `own` of all ranks, in the order of ranks.
    AllGather { own: &'a [u8], all: &'a mut [u8] },
    /// Rank k gets piece k of every rank's `own`, in the order of ranks; both have `ranks` pieces.
    AllToAll { own: &'a [u8], all: &'a mut [u8] },
    /// Everyone gets the bytes of rank 0.
    Broadcast { bytes: &'a mut [u8] },
}

/// A transport. One thread, the conductor, makes and uses it.
pub trait Wire {
    fn place(&self) -> &Place;

    /// Runs one exchange and asks [`Wait::over`] again and again whether to give up.
    ///
    /// # Errors
    /// If it was given up, or the transport failed. A transport that cannot leave an exchange that others do
    /// not join calls [`Wait::stay`] instead of returning.
    fn exchange(&mut self, exchange: Exchange<'_>, wait: &Wait<'_>) -> Result<(), Lost>;

    /// Ends all ranks, as far as the transport can.
    fn abort(&mut self, code: i32);
}

/// How long an exchange waits for the others.
#[derive(Debug)]
pub struct Wait<'a> {
    shared: &'a Shared,
    what: &'static str,
    started: Instant,
    looked: Cell<Instant>,
}

/// How often to look whether a process of this machine has ended.
const LOOK: Duration = Duration::from_millis(100);

impl<'a> Wait<'a> {
    pub(crate) fn new(shared: &'a Shared, what: &'static str) -> Self {
        let now = Instant::now();
        Self {
            shared,
            what,
            started: now,
            looked: Cell::new(now),
        }
    }

    /// What is exchanged.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Since when the exchange has waited.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Why to stop waiting, if it is time. Cheap enough to be asked between polls.
    pub fn over(&self) -> Option<Lost> {
        let now = Instant::now();
        if now - self.looked.get() < LOOK {
            return None;
        }
        self.looked.set(now);
        let waited = now - self.started;
        let cause = self.shared.cause_to_give_up(waited)?;
        Some(self.lost(cause))
    }

    /// What [`Self::over`] gave, with the names of the ranks that did not come.
    pub fn without(&self, mut lost: Lost, ranks: &[usize]) -> Lost {
        if let Cause::Late { absent, .. } = &mut lost.cause {
            *absent = self.shared.names(ranks);
        }
        lost
    }

    /// A rank's process is gone.
    pub fn ended(&self, rank: usize) -> Lost {
        let who = self.shared.names(&[rank]).concat();
        self.lost(Cause::Ended { who })
    }

    /// The failure of the transport.
    pub fn failed(&self, message: impl Into<String>) -> Lost {
        self.lost(Cause::Transport(message.into()))
    }

    /// The ranks of this machine whose processes are gone.
    pub fn ended_ranks(&self) -> Vec<usize> {
        self.shared.ended().map(|peer| peer.rank).collect()
    }

    /// Ranks with their processes and hosts.
    pub fn names(&self, ranks: &[usize]) -> String {
        self.shared.names(ranks).join(", ")
    }

    /// Anything else that ended the exchange.
    pub fn lost(&self, cause: Cause) -> Lost {
        let cause = match cause {
            // Another rank does not know how long this one has waited.
            Cause::Late { after, absent } if after.is_zero() => Cause::Late {
                after: self.started.elapsed(),
                absent,
            },
            other => other,
        };
        Lost {
            what: self.what,
            cause,
        }
    }

    /// Tells the rank that the exchange is lost, and waits until it orders to abort, or ends the process.
    /// - abort: ends all ranks with an exit code.
    pub fn stay(&self, lost: Lost, abort: impl FnOnce(i32)) -> ! {
        self.shared.lose(lost);
        abort(self.shared.wait_for_abort());
        loop {
            std::thread::park();
        }
    }
}
