//! A rank's view of all ranks, and the thread that runs its exchanges.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use crate::lost::{Cause, Lost};
use crate::messages::{broadcast, gather};
use crate::patience::{Patience, Purpose, Shared};
use crate::peers::{self, Peer};
use crate::place::Place;
use crate::sum::ordered_sum;
use crate::wire::{Exchange, Wait, Wire};

type Job = Box<dyn FnOnce(&mut dyn Wire, &Shared) + Send>;

/// The ranks of a run, as one of them sees them. Exchanges are collective: every rank starts the same ones in
/// the same order. They run one after the other in the background.
#[derive(Debug)]
pub struct Team {
    place: Place,
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    conductor: Option<JoinHandle<()>>,
    ended: Mutex<Receiver<()>>,
}

/// Why there is no team.
#[derive(Debug, thiserror::Error)]
pub enum StartError<E> {
    #[error(transparent)]
    Wire(E),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("the thread for exchanges between ranks exited unexpectedly")]
    Died,
}

/// An exchange in the background.
#[must_use = "an exchange has a result"]
#[derive(Debug)]
pub struct Pending<T> {
    purpose: Purpose,
    answer: Receiver<Result<T, Lost>>,
    shared: Arc<Shared>,
}

impl<T> Pending<T> {
    /// That of another thread than the conductor.
    #[cfg(any(feature = "nccl", test))]
    pub(crate) fn new(
        what: &'static str,
        answer: Receiver<Result<T, Lost>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            purpose: Purpose::hasty(what),
            answer,
            shared,
        }
    }

    /// Blocks until the exchange has ended.
    ///
    /// # Errors
    /// If it or an earlier one was lost.
    pub fn wait(self) -> Result<T, Lost> {
        /// How often to look whether an earlier exchange was lost, after which no answer comes.
        const LOOK: Duration = Duration::from_millis(50);
        /// How long the conductor may take to say itself that an exchange is over, as for the roll call. It can
        /// hang within a library, as in Open MPI's TCP when a peer is gone.
        const TO_ANSWER: Duration = Duration::from_secs(4);
        let wait = Wait::new(&self.shared, self.purpose);
        let mut over: Option<(Instant, Lost)> = None;
        loop {
            match self.answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(lost) = self.shared.lost() {
                        return Err(lost);
                    }
                    match (&over, wait.over()) {
                        (Some((since, lost)), _)
                            if since.elapsed() >= lost.to_answer(TO_ANSWER) =>
                        {
                            self.shared.lose(lost.clone());
                        }
                        (None, Some(lost)) => over = Some((Instant::now(), lost)),
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let died = || Lost {
                        what: self.purpose.what,
                        cause: Cause::transport("the thread for exchanges exited"),
                    };
                    return Err(self.shared.lost().unwrap_or_else(died));
                }
            }
        }
    }
}

impl Team {
    /// Starts the conductor and meets the other ranks.
    /// - make: makes the wire on the conductor's thread, which alone uses it.
    ///
    /// # Errors
    /// If there is no wire, or not all ranks come.
    pub fn start<W: Wire, E: Send + 'static>(
        make: impl FnOnce() -> Result<W, E> + Send + 'static,
        patience: Patience,
    ) -> Result<Self, StartError<E>> {
        let shared = Arc::new(Shared::new(patience));
        let (jobs, inbox) = channel::<Job>();
        let (ready, is_ready) = channel();
        let (ending, ended) = channel();
        let conductor = {
            let shared = shared.clone();
            move || {
                // Dropped last, so that the rank sees when the wire is closed.
                let _ending: Sender<()> = ending;
                let mut wire = match make() {
                    Ok(wire) => wire,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(wire.place().clone()));
                conduct(&mut wire, &inbox, &shared);
                if shared.lost().is_some() {
                    // To close it, as MPI is closed, takes all ranks.
                    mem::forget(wire);
                }
            }
        };
        let conductor = thread::Builder::new().name("ranks".into()).spawn(conductor);
        let conductor = conductor.map_err(StartError::Thread)?;
        let team = Self {
            place: await_start(&is_ready, &shared)?,
            shared,
            jobs: Some(jobs),
            conductor: Some(conductor),
            ended: Mutex::new(ended),
        };
        team.meet()?;
        Ok(team)
    }

    /// Learns where the other ranks run.
    fn meet(&self) -> Result<(), Lost> {
        let own = Peer::own(&self.place);
        let line = own.to_line().into_bytes();
        let lines = self.gather(START.what, line).wait()?;
        let peers = lines
            .iter()
            .map(|line| Peer::parse(&String::from_utf8_lossy(line)));
        let peers: Option<Vec<Peer>> = peers.collect();
        let peers = peers.ok_or_else(|| {
            let cause = Cause::transport("the ranks run other versions of this program");
            let lost = Lost {
                what: START.what,
                cause,
            };
            self.shared.lose(lost.clone());
            lost
        })?;
        self.shared.set_peers(peers, &own);
        Ok(())
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    #[cfg(any(feature = "nccl", test))]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The processes of all ranks, in the order of ranks.
    pub fn peers(&self) -> &[Peer] {
        self.shared.peers()
    }

    /// The threads that this rank should compute with: its part of the cores that it may run on.
    pub fn threads(&self) -> usize {
        peers::threads(self.peers(), self.place.rank)
    }

    /// The cores of this machine that the launcher may give; 0 if unknown.
    pub fn launcher_cores(&self) -> usize {
        peers::launcher_cores()
    }

    /// How many of these no rank may run on.
    pub fn idle_cores(&self) -> usize {
        peers::idle_cores(self.peers(), self.place.rank)
    }

    /// Everyone's bytes, of the same length on every rank, in the order of ranks.
    pub fn all_gather(&self, what: &'static str, own: Vec<u8>) -> Pending<Vec<u8>> {
        self.submit(Purpose::hasty(what), move |wire, wait| {
            let mut all = vec![0; own.len() * wire.place().ranks];
            let (own, bytes) = (&own, &mut all);
            wire.exchange(Exchange::AllGather { own, all: bytes }, wait)?;
            Ok(all)
        })
    }

    /// Everyone's bytes, of any lengths, in the order of ranks.
    pub fn gather(&self, what: &'static str, own: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
        self.submit(Purpose::hasty(what), move |wire, wait| {
            gather(wire, &own, wait)
        })
    }

    /// The same, where a signal to stop does not shorten the wait ([`Patience::after_stop`]): to wait for a
    /// rank that saves what the signal asks for.
    pub fn gather_patiently(&self, what: &'static str, own: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
        let is_patient = true;
        let purpose = Purpose { what, is_patient };
        self.submit(purpose, move |wire, wait| gather(wire, &own, wait))
    }

    /// The bytes of rank 0. The others' are ignored.
    pub fn broadcast(&self, what: &'static str, own: Vec<u8>) -> Pending<Vec<u8>> {
        self.submit(Purpose::hasty(what), move |wire, wait| {
            broadcast(wire, own, wait)
        })
    }

    /// The sums over ranks of every rank's values, added in the order of ranks.
    /// - parts: of the same lengths on every rank.
    pub fn sum<V: AsMut<[f32]> + Send + 'static>(
        &self,
        what: &'static str,
        mut parts: Vec<V>,
    ) -> Pending<Vec<V>> {
        self.submit(Purpose::hasty(what), move |wire, wait| {
            ordered_sum(wire, &mut parts, wait)?;
            Ok(parts)
        })
    }

    fn submit<T: Send + 'static>(
        &self,
        purpose: Purpose,
        exchange: impl FnOnce(&mut dyn Wire, &Wait) -> Result<T, Lost> + Send + 'static,
    ) -> Pending<T> {
        let (answers, answer) = channel();
        let job: Job = Box::new(move |wire, shared| {
            let result = exchange(wire, &Wait::new(shared, purpose));
            match &result {
                Ok(_) => shared.note_progress(),
                Err(lost) => shared.lose(lost.clone()),
            }
            // The rank may not wait for it.
            let _ = answers.send(result);
        });
        if let Some(jobs) = &self.jobs {
            // If the conductor is gone, so is the answer's sender, which `wait` notices.
            let _ = jobs.send(job);
        }
        Pending {
            purpose,
            answer,
            shared: self.shared.clone(),
        }
    }

    /// What was lost, after which no exchange comes about.
    pub fn lost(&self) -> Option<Lost> {
        self.shared.lost()
    }

    /// Ends all ranks with this exit code, as far as the transport can, once the others have had some seconds
    /// to save: they hear of it as [`Cause::Aborted`]. Does not wait; MPI ends this process too.
    pub fn abort(&self, code: i32) {
        self.shared.order_abort(code);
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Box::new(move |wire, _| wire.abort(code)));
        }
    }
}

impl Drop for Team {
    /// Closes the wire, unless an exchange was lost: it may never end. In a panic, ends all ranks with code 1
    /// ([`Team::abort`]), as the others would wait for this one.
    fn drop(&mut self) {
        /// The others may be late, or dead without anybody having noticed.
        const LONGEST_END: Duration = Duration::from_secs(10);
        const PANICKED: i32 = 1;
        if thread::panicking() && self.shared.lost().is_none() {
            self.abort(PANICKED);
        }
        self.jobs = None;
        if self.shared.lost().is_some() {
            return;
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ended = ended.recv_timeout(LONGEST_END);
        if let (Err(RecvTimeoutError::Disconnected), Some(conductor)) =
            (ended, self.conductor.take())
        {
            let _ = conductor.join();
        }
    }
}

/// Meeting the other ranks.
const START: Purpose = Purpose::hasty("the ranks to start");

/// Waits until the wire is there.
fn await_start<E>(
    is_ready: &Receiver<Result<Place, E>>,
    shared: &Shared,
) -> Result<Place, StartError<E>> {
    /// How often to look whether to give up.
    const LOOK: Duration = Duration::from_millis(100);
    let wait = Wait::new(shared, START);
    loop {
        match is_ready.recv_timeout(LOOK) {
            Ok(place) => return place.map_err(StartError::Wire),
            Err(RecvTimeoutError::Disconnected) => return Err(StartError::Died),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(lost) = wait.over() {
                    return Err(lost.into());
                }
            }
        }
    }
}

/// Runs jobs in order until there are no more. After a loss there are none, but the order to abort may come.
fn conduct(wire: &mut dyn Wire, inbox: &Receiver<Job>, shared: &Shared) {
    while let Ok(job) = inbox.recv() {
        job(wire, shared);
        if shared.lost().is_some() {
            break;
        }
    }
    if shared.lost().is_none() {
        return;
    }
    if shared.abort_ordered().is_none() {
        wire.abandon();
    }
    loop {
        if let Some(code) = shared.abort_ordered() {
            return wire.abort(code);
        }
        // Whoever waits for a later exchange sees that its sender is gone.
        if inbox.recv().is_err() {
            return;
        }
    }
}
