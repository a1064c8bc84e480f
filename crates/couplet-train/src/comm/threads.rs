//! Ranks as threads of one process.

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use couplet_ranks::{Fault, Patience, ThreadWire};

use super::{Comm, Team};

/// Longer than any exchange of a test, short enough to fail soon.
const LIMIT: Duration = Duration::from_mins(2);

/// Runs `work` on each of `ranks` threads.
/// - returns the results in the order of ranks.
pub fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Comm) -> T + Sync) -> Vec<T> {
    on_faulty_ranks(ranks, LIMIT, |_| None, work)
}

/// The same with exchanges that wait for `limit`, and faults of some ranks.
pub fn on_faulty_ranks<T: Send>(
    ranks: usize,
    limit: Duration,
    fault: impl Fn(usize) -> Option<Fault>,
    work: impl Fn(Comm) -> T + Sync,
) -> Vec<T> {
    let wires = ThreadWire::team(ranks).into_iter().enumerate();
    let wires = wires.map(|(rank, wire)| match fault(rank) {
        Some(fault) => wire.with_fault(fault),
        None => wire,
    });
    let wires: Vec<_> = wires.collect();
    thread::scope(|scope| {
        let start = |wire: ThreadWire| {
            let work = &work;
            scope.spawn(move || {
                let team = Team::start(|| Ok::<_, Infallible>(wire), Patience::of(limit));
                work(Comm::of(team.expect("all ranks start")))
            })
        };
        let threads: Vec<_> = wires.into_iter().map(start).collect();
        let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
        results
            .map(|result| result.expect("no rank panics"))
            .collect()
    })
}
