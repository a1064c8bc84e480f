//! The thread that runs NCCL's exchanges.
//!
//! NCCL has no time limits, and its calls may block while ranks connect. So one thread of this process makes
//! all calls: it looks after the GPU's work in short sleeps, with the patience of the team, and aborts it where
//! a rank is lost. Should a call itself not return, the rank goes on without the thread, as it does without a
//! conductor that hangs (`Pending::wait`).

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::buffer::Floats;
use super::error::{NcclError, NcclStartError};
use super::library::{Communicator, Nccl as Library, UniqueId};
use crate::lost::Lost;
use crate::patience::Shared;
use crate::team::{Pending, Team};
use crate::wire::Wait;

/// The version of the library that [`Nccl::start`] would use.
///
/// # Errors
/// If it cannot be loaded.
pub fn find_nccl() -> Result<String, NcclError> {
    Ok(Library::open()?.version())
}

/// An exchange of floats on GPUs. The work that writes `own` must have ended.
#[derive(Debug)]
pub enum Exchanged {
    /// `sum` becomes the sum of every rank's `own`, all of one length.
    Sum { own: Floats, sum: Floats },
    /// `all` becomes every rank's `own`, in the order of ranks.
    Gather { own: Floats, all: Floats },
}

/// The ranks of a team, joined by NCCL. Exchanges are collective, as those of the team: every rank starts the
/// same ones in the same order. They run behind whatever the ranks do meanwhile, the team's exchanges too.
#[derive(Debug)]
pub struct Nccl {
    version: String,
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    ended: Mutex<Receiver<()>>,
}

struct Job {
    what: &'static str,
    exchanges: Vec<Exchanged>,
    answers: Sender<Result<(), Lost>>,
}

/// NCCL connects thousands of ranks in less.
const START: Duration = Duration::from_mins(5);

impl Nccl {
    /// Connects all ranks; every rank calls it.
    /// - device: of this rank, as the driver counts those that `CUDA_VISIBLE_DEVICES` leaves.
    ///
    /// # Errors
    /// On all ranks if one of them cannot be connected within a few minutes, or is lost.
    pub fn start(team: &Team, device: usize) -> Result<Self, NcclStartError> {
        Self::start_with(team, Library::open(), device)
    }

    /// The same with a library.
    pub(crate) fn start_with(
        team: &Team,
        library: Result<Library, NcclError>,
        device: usize,
    ) -> Result<Self, NcclStartError> {
        let place = team.place();
        let id = match &library {
            Ok(library) if place.is_first() => library.unique_id().map(|id| id.0.to_vec()),
            _ => Ok(Vec::new()),
        };
        // Without an id, rank 0 says below why there is none.
        let id_of_first = team.broadcast(
            "the id of NCCL",
            id.as_ref().map_or(Vec::new(), Clone::clone),
        );
        let id_of_first = <[u8; UniqueId::LEN]>::try_from(id_of_first.wait()?).ok();
        let own = match (id.and(library), id_of_first) {
            (Ok(library), Some(id)) => Self::connect(team, library, device, UniqueId(id)),
            (Ok(_), None) => Err(Unready::Waited("there is no id of NCCL".to_string())),
            (Err(error), _) => Err(Unready::Failed(words(&error))),
        };
        let failed = own.as_ref().err().map_or(Vec::new(), Unready::to_bytes);
        let all = team.gather("NCCL to start", failed).wait()?;
        let failures = (0..)
            .zip(&all)
            .filter_map(|(rank, bytes)| Some((rank, Unready::parse(bytes)?)));
        let failures: Vec<(usize, Unready)> = failures.collect();
        // Those that waited in vain do not know why.
        let is_cause = |(_, unready): &&(usize, Unready)| matches!(unready, Unready::Failed(_));
        if let Some((rank, unready)) = failures.iter().find(is_cause).or(failures.first()) {
            let (Unready::Failed(words) | Unready::Waited(words)) = unready;
            let who = &team.peers()[*rank];
            return Err(NcclStartError::Failed(format!("{who}: {words}")));
        }
        own.map_err(|_| NcclStartError::Failed("this rank is not ready".to_string()))
    }

    /// Starts the thread, which connects this rank.
    fn connect(
        team: &Team,
        library: Library,
        device: usize,
        id: UniqueId,
    ) -> Result<Self, Unready> {
        let version = library.version();
        let place = (team.place().rank, team.place().ranks);
        let shared = team.shared().clone();
        let (jobs, inbox) = channel::<Job>();
        let (ready, is_ready) = channel();
        let (ending, ended) = channel();
        let work = {
            let shared = shared.clone();
            move || {
                // Dropped last, so that the rank sees when the connections are closed.
                let _ending: Sender<()> = ending;
                match Communicator::new(Arc::new(library), device, id, place) {
                    Ok(communicator) => {
                        if ready.send(Ok(())).is_ok() {
                            serve(communicator, &inbox, &shared);
                        }
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("nccl".into()).spawn(work);
        thread.map_err(|error| Unready::Failed(words(&NcclError::Thread(error))))?;
        await_ready(&is_ready, &shared, &version)?;
        Ok(Self {
            version,
            shared,
            jobs: Some(jobs),
            ended: Mutex::new(ended),
        })
    }

    /// The library's version, such as `2.27.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Starts exchanges, one after the other. All have ended once the answer is there.
    pub fn start_exchanges(&self, what: &'static str, exchanges: Vec<Exchanged>) -> Pending<()> {
        let (answers, answer) = channel();
        if let Some(jobs) = &self.jobs {
            // If the thread is gone, so is the answer's sender, which `wait` notices.
            let _ = jobs.send(Job {
                what,
                exchanges,
                answers,
            });
        }
        Pending::new(what, answer, self.shared.clone())
    }
}

impl Drop for Nccl {
    /// Closes the connections, unless that does not end.
    fn drop(&mut self) {
        const LONGEST_END: Duration = Duration::from_secs(5);
        self.jobs = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(LONGEST_END);
    }
}

/// Why a rank is not connected.
enum Unready {
    Failed(String),
    /// Others may have failed.
    Waited(String),
}

impl Unready {
    /// For [`Self::parse`].
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, words) = match self {
            Self::Failed(words) => (b'F', words),
            Self::Waited(words) => (b'W', words),
        };
        [&[kind], words.as_bytes()].concat()
    }

    /// `None` if a rank has nothing to say.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, words) = bytes.split_first()?;
        let words = String::from_utf8_lossy(words).into_owned();
        Some(if *kind == b'F' {
            Self::Failed(words)
        } else {
            Self::Waited(words)
        })
    }
}

/// Waits until the thread has connected this rank, or says why it has not.
fn await_ready(
    is_ready: &Receiver<Result<(), NcclError>>,
    shared: &Shared,
    version: &str,
) -> Result<(), Unready> {
    const LOOK: Duration = Duration::from_millis(100);
    let wait = Wait::new(shared, "NCCL to connect the ranks");
    // The others must still come to hear of it.
    let limit = START.min(shared.limit() / 2);
    loop {
        match is_ready.recv_timeout(LOOK) {
            Ok(ready) => return ready.map_err(|error| Unready::Failed(words(&error))),
            Err(RecvTimeoutError::Disconnected) => {
                let words = format!("the thread of NCCL {version} exited unexpectedly");
                return Err(Unready::Failed(words));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(lost) = shared.lost().or_else(|| wait.over()) {
            return Err(Unready::Waited(lost.to_string()));
        }
        if wait.started().elapsed() >= limit {
            let seconds = limit.as_secs_f64();
            let words = format!("NCCL {version} did not connect the ranks within {seconds:.0} s");
            return Err(Unready::Waited(words));
        }
    }
}

/// Runs jobs in order until there are no more, or a rank is lost.
fn serve(mut communicator: Communicator, inbox: &Receiver<Job>, shared: &Arc<Shared>) {
    while let Ok(job) = inbox.recv() {
        let wait = Wait::new(shared, job.what);
        let result = run(&mut communicator, job.exchanges, &wait, shared);
        let is_lost = result.is_err();
        if let Err(lost) = &result {
            abort(&mut communicator, lost, shared);
        }
        // The rank may not wait for it.
        let _ = job.answers.send(result);
        if is_lost {
            return;
        }
    }
}

/// Frees the GPU of an exchange that is lost, before the rank saves. Should that not end, the rank goes on.
fn abort(communicator: &mut Communicator, lost: &Lost, shared: &Arc<Shared>) {
    const LONGEST: Duration = Duration::from_secs(3);
    let (late, of_rank) = (lost.clone(), shared.clone());
    let watch = thread::Builder::new().name("nccl-abort".into());
    // Without a thread, whoever waits notices by its own patience.
    let _ = watch.spawn(move || {
        thread::sleep(LONGEST);
        of_rank.lose(late);
    });
    communicator.abort();
    shared.lose(lost.clone());
}

fn run(
    communicator: &mut Communicator,
    exchanges: Vec<Exchanged>,
    wait: &Wait,
    shared: &Shared,
) -> Result<(), Lost> {
    let lost = |error: &NcclError| wait.failed(words(error));
    for exchange in exchanges {
        let started = match exchange {
            Exchanged::Sum { own, sum } => communicator.start_sum(own, sum),
            Exchanged::Gather { own, all } => communicator.start_gather(own, all),
        };
        started.map_err(|error| lost(&error))?;
    }
    let started = Instant::now();
    while !communicator.is_done().map_err(|error| lost(&error))? {
        if let Some(lost) = shared.lost().or_else(|| wait.over()) {
            return Err(lost);
        }
        pause(started);
    }
    Ok(())
}

/// Lets others compute until it is worth to look again.
fn pause(started: Instant) {
    const YIELD: Duration = Duration::from_micros(200);
    const SHORTEST: Duration = Duration::from_micros(50);
    const LONGEST: Duration = Duration::from_millis(1);
    let waited = started.elapsed();
    if waited < YIELD {
        thread::yield_now();
    } else {
        thread::sleep((waited / 16).clamp(SHORTEST, LONGEST));
    }
}

/// An error with its causes.
fn words(error: &NcclError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::patience::Patience;
    use crate::threads::ThreadWire;

    #[test]
    fn without_the_library_all_ranks_hear_why() {
        if find_nccl().is_ok() {
            // This machine has NCCL.
            return;
        }
        let rank = |wire: ThreadWire| {
            thread::spawn(move || {
                let patience = Patience::of(Duration::from_secs(20));
                let team = Team::start(|| Ok::<_, Infallible>(wire), patience).unwrap();
                Nccl::start(&team, 0).unwrap_err().to_string()
            })
        };
        let ranks: Vec<_> = ThreadWire::team(3).into_iter().map(rank).collect();
        for rank in ranks {
            let words = rank.join().unwrap();
            assert!(words.starts_with("rank 0 (process "), "{words}");
            assert!(words.contains("libnccl.so.2 cannot be loaded"), "{words}");
        }
    }
}
