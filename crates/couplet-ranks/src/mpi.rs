//! Ranks as processes that MPI joins.
//!
//! A collective that a rank does not join cannot be taken back: its buffers stay MPI's. So an exchange that is
//! given up never returns; the conductor stays in it until the process ends, while the rank saves.

use std::thread;
use std::time::{Duration, Instant};

use ferrompi::{Communicator, Request, Scope, ThreadLevel, scope};

use crate::lost::{Cause, Lost, Missing};
use crate::peers::Peer;
use crate::pieces::in_pieces;
use crate::place::Place;
use crate::roll_call::{Alarm, RollCall};
use crate::wire::{Exchange, Wait, Wire};

/// How long a rank that aborts waits for the others to save.
const TO_SAVE: Duration = Duration::from_secs(5);

/// MPI's ranks. To be made, used and dropped on one thread.
pub struct Mpi {
    place: Place,
    library: String,
    // Dropped before the session, which closes MPI.
    ranks: Communicator,
    roll_call: RollCall,
    _session: ferrompi::Mpi,
}

/// Why MPI did not start.
#[derive(Debug, thiserror::Error)]
#[error("MPI does not start")]
pub struct MpiError(#[from] ferrompi::Error);

impl Mpi {
    /// Starts MPI and waits for all ranks to do so.
    ///
    /// # Errors
    /// If MPI says so. An MPI that finds no peers usually ends the process instead.
    pub fn start() -> Result<Self, MpiError> {
        let mpi = ferrompi::Mpi::init_thread(ThreadLevel::Funneled)?;
        let ranks = mpi.world();
        let machine = ranks.split_shared()?;
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let place = Place {
            rank: count(ranks.rank()),
            ranks: count(ranks.size()),
            local_rank: count(machine.rank()),
            local_ranks: count(machine.size()),
            host: ranks.processor_name()?,
        };
        let roll_call = RollCall::new(ranks.duplicate()?);
        Ok(Self {
            place,
            library: name_of(&ferrompi::Mpi::library_version()?),
            ranks,
            roll_call,
            _session: mpi,
        })
    }

    /// The library's name and version, such as `Open MPI v4.1.4`.
    pub fn library(&self) -> &str {
        &self.library
    }

    /// The same before MPI has started.
    pub fn linked_library() -> Option<String> {
        let version = ferrompi::Mpi::library_version();
        version.ok().map(|version| name_of(&version))
    }

    fn run(&self, exchange: Exchange<'_>, wait: &Wait<'_>) -> Result<(), Lost> {
        let result = scope(|scope| {
            let request = match exchange {
                Exchange::AllGather { own, all } => self.ranks.iallgather(scope, own, all),
                Exchange::AllToAll { own, all } => self.ranks.ialltoall(scope, own, all),
                Exchange::Broadcast { bytes } => self.ranks.ibroadcast(scope, bytes, 0),
            };
            let finished = match request {
                Ok(mut request) => self.finish(&mut request, scope, wait),
                Err(error) => Err(self.failure(&error, scope, wait)),
            };
            if let Err(lost) = finished {
                wait.stay(lost, |code| {
                    self.ranks.abort(code);
                })
            }
            Ok(())
        });
        result.map_err(|error| wait.failed(error.to_string()))
    }

    /// Polls a request until it has ended or should be given up.
    fn finish<'s>(
        &self,
        request: &mut Request<'s>,
        scope: &'s Scope<'s, '_>,
        wait: &Wait<'_>,
    ) -> Result<(), Lost> {
        let started = Instant::now();
        let mut polls = 1;
        loop {
            for _ in 0..polls {
                match request.test() {
                    Ok(Some(_)) => return Ok(()),
                    Ok(None) => {}
                    Err(error) => return Err(self.failure(&error, scope, wait)),
                }
            }
            match self.roll_call.look(scope) {
                Some(Alarm::Cause(cause)) => return Err(wait.lost(cause)),
                Some(Alarm::Gone(mut gone)) => {
                    let mut seen = wait.ended_ranks();
                    seen.retain(|rank| !gone.contains(rank));
                    gone.append(&mut seen);
                    return Err(self.farewell(wait.ended(&gone), &gone, scope, wait));
                }
                None => {}
            }
            if let Some(code) = wait.abort_ordered() {
                self.leave(scope, code);
            }
            if let Some(lost) = wait.over() {
                return Err(self.farewell(lost, &wait.ended_ranks(), scope, wait));
            }
            polls = pause(started);
        }
    }

    /// What an exchange that is given up is lost to. The other ranks hear it.
    /// - gone: ranks that are known to have ended.
    fn farewell<'s>(
        &self,
        lost: Lost,
        gone: &[usize],
        scope: &'s Scope<'s, '_>,
        wait: &Wait<'_>,
    ) -> Lost {
        let (lost, absent) = match &lost.cause {
            Cause::Late { .. } => match self.roll_call.call(scope) {
                Ok(absent) => (wait.without(lost, &absent), absent),
                Err(cause) => return wait.lost(cause),
            },
            _ => (lost, gone.to_vec()),
        };
        self.roll_call.tell(scope, &lost.cause, &absent);
        lost
    }

    /// What an error of MPI is lost to: mostly a process that has ended.
    fn failure<'s>(
        &self,
        error: &ferrompi::Error,
        scope: &'s Scope<'s, '_>,
        wait: &Wait<'_>,
    ) -> Lost {
        /// A process may end a moment after its connections.
        const MOMENT: Duration = Duration::from_millis(300);
        let began = Instant::now();
        while began.elapsed() < MOMENT {
            if let Some(lost) = wait.over() {
                return self.farewell(lost, &wait.ended_ranks(), scope, wait);
            }
            thread::sleep(Duration::from_millis(10));
        }
        let lost = wait.failed(format!("{}: {error}", self.library));
        match self.roll_call.call(scope) {
            Ok(absent) => self.farewell(wait.without(lost, &absent), &absent, scope, wait),
            Err(cause) => wait.lost(cause),
        }
    }

    /// Ends all ranks. The others hear before that this one fails, and can save: launchers kill them once it
    /// has ended.
    fn leave<'s>(&self, scope: &'s Scope<'s, '_>, code: i32) -> ! {
        let (rank, name) = (self.place.rank, Peer::own(&self.place).to_string());
        let who = Missing { rank, name };
        (self.roll_call).tell(scope, &Cause::Aborted { who, code }, &[]);
        thread::sleep(TO_SAVE);
        self.ranks.abort(code);
    }
}

impl Wire for Mpi {
    fn place(&self) -> &Place {
        &self.place
    }

    fn exchange(&mut self, exchange: Exchange<'_>, wait: &Wait<'_>) -> Result<(), Lost> {
        /// Bytes of all ranks in one collective: below what MPI counts in 32 bits.
        const LONGEST: usize = 1 << 30;
        in_pieces(exchange, self.place.ranks, LONGEST, &mut |piece| {
            self.run(piece, wait)
        })
    }

    fn abort(&mut self, code: i32) {
        let _: Result<(), _> = scope(|scope| self.leave(scope, code));
        self.ranks.abort(code);
    }
}

/// Lets others compute until it is worth to poll again. Ranks in step meet within microseconds; a longer wait
/// sleeps, and must not take a core from threads that compute.
/// - returns how often to poll then: some libraries move a piece of a long message each time.
fn pause(started: Instant) -> usize {
    const YIELD: Duration = Duration::from_millis(1);
    const SHORTEST: Duration = Duration::from_micros(50);
    const LONGEST: Duration = Duration::from_millis(1);
    const POLLS: usize = 32;
    let waited = started.elapsed();
    if waited < YIELD {
        thread::yield_now();
        return 1;
    }
    thread::sleep((waited / 16).clamp(SHORTEST, LONGEST));
    POLLS
}

/// The name in what MPI says about itself, which may be many lines.
fn name_of(version: &str) -> String {
    let line = version.lines().next().unwrap_or_default();
    let name = line.split(',').next().unwrap_or_default();
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").replace(" Version:", "")
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn libraries_are_named_shortly() {
        let debian = "Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4";
        assert_eq!(name_of(debian), "Open MPI v4.1.4");
        let mpich = "MPICH Version:      4.0.2\nMPICH Release date: Thu Apr  7\nMPICH ABI: 14:2:2";
        assert_eq!(name_of(mpich), "MPICH 4.0.2");
    }
}
