//! What carries bytes between ranks.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::lost::{Cause, Lost};
use crate::patience::{Purpose, Shared};
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

    /// An exchange was lost: there are no more. From here on, the wire is neither used nor closed, but for an
    /// abort.
    fn abandon(&mut self) {}

    /// Ends all ranks, as far as the transport can, once the others have had some seconds to save.
    fn abort(&mut self, code: i32);
}

/// How long an exchange waits for the others.
#[derive(Debug)]
pub struct Wait<'a> {
    shared: &'a Shared,
    purpose: Purpose,
    started: Instant,
    looked: Cell<Instant>,
}

/// How often to look whether a process of this machine has ended.
const LOOK: Duration = Duration::from_millis(50);

impl<'a> Wait<'a> {
    pub(crate) fn new(shared: &'a Shared, purpose: Purpose) -> Self {
        let now = Instant::now();
        Self {
            shared,
            purpose,
            started: now,
            looked: Cell::new(now),
        }
    }

    /// What is exchanged.
    pub fn what(&self) -> &'static str {
        self.purpose.what
    }

    /// Since when the exchange has waited.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// A part of the exchange has ended.
    pub(crate) fn note_progress(&self) {
        self.shared.note_progress();
    }

    /// Why to stop waiting, if it is time. Cheap enough to be asked between polls.
    pub fn over(&self) -> Option<Lost> {
        let now = Instant::now();
        if now - self.looked.get() < LOOK {
            return None;
        }
        self.looked.set(now);
        let waited = now.saturating_duration_since(self.shared.waiting_since(self.started));
        let cause = self.shared.cause_to_give_up(self.purpose, waited)?;
        Some(self.lost(cause))
    }

    /// The exit code if this rank was told to abort all: the exchange is not to be waited for any more.
    pub fn abort_ordered(&self) -> Option<i32> {
        self.shared.abort_ordered()
    }

    /// The loss with the names of the ranks that did not come or answer.
    pub fn without(&self, mut lost: Lost, ranks: &[usize]) -> Lost {
        match &mut lost.cause {
            Cause::Late { absent: names, .. } | Cause::Transport { silent: names, .. } => {
                *names = self.shared.missing(ranks);
            }
            Cause::Ended { .. } | Cause::Aborted { .. } | Cause::Stopped { .. } => {}
        }
        lost
    }

    /// The processes of these ranks are gone.
    pub fn ended(&self, ranks: &[usize]) -> Lost {
        let gone = self.shared.missing(ranks);
        self.lost(Cause::Ended { gone })
    }

    /// A rank ends all ranks.
    pub fn aborted(&self, rank: usize, code: i32) -> Lost {
        let who = self.shared.missing(&[rank]).remove(0);
        self.lost(Cause::Aborted { who, code })
    }

    /// The failure of the transport.
    pub fn failed(&self, message: impl Into<String>) -> Lost {
        self.lost(Cause::transport(message))
    }

    /// The ranks of this machine whose processes are gone.
    pub fn ended_ranks(&self) -> Vec<usize> {
        self.shared.ended()
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
            what: self.purpose.what,
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
