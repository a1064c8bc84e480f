use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::lost::Cause;
use crate::patience::Patience;
use crate::team::Team;

/// Longer than any exchange takes that comes about, on a machine that is busy with others.
const LONG: Duration = Duration::from_mins(2);
/// Long enough for ranks that are there to meet.
const SHORT: Duration = Duration::from_secs(5);

/// Runs `work` on every rank, which waits for `limit`; a fault is of rank 1.
/// - returns the results in the order of ranks; `None` where a rank has panicked.
fn on_ranks<T: Send>(
    ranks: usize,
    limit: Duration,
    fault: Option<Fault>,
    work: impl Fn(Team) -> T + Sync,
) -> Vec<Option<T>> {
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
                let team = Team::start(|| Ok::<_, Infallible>(wire), Patience::of(limit));
                work(team.expect("all ranks start"))
            })
        };
        let threads: Vec<_> = wires.into_iter().map(start).collect();
        let results = threads.into_iter().map(|thread| thread.join().ok());
        results.collect()
    })
}

#[test]
fn everyone_gets_everything_in_the_order_of_ranks() {
    let found = on_ranks(3, LONG, None, |team| {
        let rank = u8::try_from(team.place().rank).unwrap();
        let same = team.all_gather("bytes", vec![rank; 2]);
        // Shorter and longer than one exchange takes.
        let any = team.gather("texts", vec![rank; 700 * usize::from(rank)]);
        let first = team.broadcast("the start", vec![rank + 7; 5]);
        let values = [0..2, 0..0, 2..5_u8].map(|part| part.map(|at| f32::from(rank + at)));
        let values = values.map(Iterator::collect::<Vec<f32>>).to_vec();
        let sum = team.sum("values", values);
        assert!(team.threads() >= 1);
        assert_eq!(team.peers().len(), 3);
        (
            same.wait().unwrap(),
            any.wait().unwrap(),
            first.wait().unwrap(),
            sum.wait().unwrap(),
        )
    });
    for (same, any, first, sum) in found.into_iter().flatten() {
        assert_eq!(same, [0, 0, 1, 1, 2, 2]);
        assert_eq!(any, [vec![], vec![1; 700], vec![2; 1400]]);
        assert_eq!(first, [7; 5]);
        assert_eq!(sum, [vec![3.0, 6.0], vec![], vec![9.0, 12.0, 15.0]]);
    }
}

#[test]
fn a_rank_that_does_not_come_is_named_and_nobody_hangs() {
    // The first exchange is that of the start.
    for (trouble, limit, all_lost) in [
        (Trouble::Drop, SHORT, true),
        (Trouble::Fail, LONG, true),
        (Trouble::Delay(Duration::from_millis(300)), LONG, false),
    ] {
        let fault = Fault {
            exchange: 1,
            trouble,
        };
        let found = on_ranks(3, limit, Some(fault), |team| {
            let first = team.sum("the first", vec![[1.0; 4]]).wait();
            let second = team.sum("the second", vec![[1.0; 4]]).wait();
            // Nothing comes after a loss.
            assert_eq!(first.is_err(), second.is_err());
            first
        });
        for (rank, result) in found.into_iter().enumerate() {
            let result = result.expect("no rank panics");
            assert_eq!(result.is_err(), all_lost, "{trouble:?}: {result:?}");
            if let (Err(lost), true) = (result, rank != 1) {
                assert!(lost.ranks().any(|rank| rank == 1), "{lost}");
                assert!(lost.to_string().contains("rank 1 "), "{lost}");
                assert_eq!(lost.what, "the first");
            }
        }
    }
}

#[test]
fn ranks_that_leave_are_noticed_and_all_are_named() {
    let left = AtomicUsize::new(0);
    let found = on_ranks(3, LONG, None, |team| {
        if team.place().rank > 0 {
            drop(team);
            left.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        while left.load(Ordering::SeqCst) < 2 {
            thread::sleep(Duration::from_millis(10));
        }
        Some(team.all_gather("the rest", vec![0]).wait())
    });
    let lost = found[0].as_ref().unwrap().as_ref().unwrap();
    let lost = lost.as_ref().unwrap_err();
    assert_eq!(lost.ranks().collect::<Vec<_>>(), [1, 2], "{lost}");
    assert!(lost.to_string().starts_with("rank 1 (process"), "{lost}");
    assert!(lost.to_string().contains(" have ended"), "{lost}");
}

#[test]
fn a_panicking_rank_ends_the_others_although_its_exchange_waits() {
    let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
    let found = on_ranks(2, LONG, None, |team| {
        if team.place().rank == 1 {
            let _pending = team.sum("the first", vec![[1.0]]);
            // Drops the team while its conductor waits for rank 0.
            let _sets = SetWhenDropped(&is_over);
            let _team = team;
            panic!("a test panics");
        }
        while !is_over.load(Ordering::SeqCst) {
            assert!(begun.elapsed() < LONG, "the panic waits for this rank");
            thread::sleep(Duration::from_millis(10));
        }
        // Rank 1's bytes of the first are there; those of the second never come.
        let _ = team.sum("the first", vec![[1.0]]).wait();
        team.sum("the second", vec![[1.0]]).wait()
    });
    assert!(found[1].is_none());
    let lost = found[0].as_ref().unwrap().as_ref().unwrap_err();
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    let Cause::Aborted { who, code: 1 } = &lost.cause else {
        panic!("{lost}");
    };
    assert_eq!(who.rank, 1);
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
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

#[test]
fn whoever_was_asked_to_stop_does_not_wait_for_a_wire() {
    let patience = Patience {
        limit: Duration::from_mins(10),
        stop: Arc::new(|| true),
        after_stop: Duration::from_millis(200),
    };
    let (_keep, never) = std::sync::mpsc::channel::<ThreadWire>();
    let team = Team::start(move || never.recv(), patience);
    let error = team.unwrap_err().to_string();
    assert!(error.contains("signal to stop"), "{error}");
}

#[test]
fn a_signal_to_stop_does_not_shorten_a_patient_exchange() {
    let is_asked = Arc::new(AtomicBool::new(false));
    let ranks = ThreadWire::team(2).into_iter().map(|wire| {
        let is_asked = is_asked.clone();
        thread::spawn(move || {
            let rank = wire.place.rank;
            let asked = is_asked.clone();
            let patience = Patience {
                limit: LONG,
                stop: Arc::new(move || asked.load(Ordering::SeqCst)),
                after_stop: Duration::from_millis(200),
            };
            let team = Team::start(|| Ok::<_, Infallible>(wire), patience).unwrap();
            is_asked.store(true, Ordering::SeqCst);
            if rank == 1 {
                // As long as a checkpoint takes: many times what a hasty exchange waits.
                thread::sleep(Duration::from_secs(2));
            }
            team.gather_patiently("the checkpoint", vec![7]).wait()
        })
    });
    for rank in ranks.collect::<Vec<_>>() {
        assert_eq!(rank.join().unwrap().unwrap(), [[7], [7]]);
    }
}

#[test]
fn a_wire_is_not_closed_after_a_loss() {
    let mut wires = ThreadWire::team(2);
    let (second, first) = (wires.pop().unwrap(), wires.pop().unwrap());
    let fault = Fault {
        exchange: 1,
        trouble: Trouble::Fail,
    };
    let (closed, is_closed) = std::sync::mpsc::channel::<()>();
    let wire = Watched {
        wire: first.with_fault(fault),
        _closed: closed,
    };
    let other = thread::spawn(move || {
        let team = Team::start(|| Ok::<_, Infallible>(second), Patience::of(LONG)).unwrap();
        team.sum("values", vec![[1.0]]).wait()
    });
    let team = Team::start(|| Ok::<_, Infallible>(wire), Patience::of(LONG)).unwrap();
    assert!(team.sum("values", vec![[1.0]]).wait().is_err());
    let lost = other.join().unwrap().unwrap_err();
    assert_eq!(lost.ranks().collect::<Vec<_>>(), [0], "{lost}");
    drop(team);
    let closed = is_closed.recv_timeout(Duration::from_millis(500));
    assert_eq!(closed, Err(std::sync::mpsc::RecvTimeoutError::Timeout));
}

/// A wire that shows when it is closed.
struct Watched {
    wire: ThreadWire,
    _closed: std::sync::mpsc::Sender<()>,
}

impl Wire for Watched {
    fn place(&self) -> &Place {
        &self.wire.place
    }

    fn exchange(&mut self, exchange: Exchange<'_>, wait: &Wait<'_>) -> Result<(), Lost> {
        self.wire.exchange(exchange, wait)
    }

    fn abandon(&mut self) {
        self.wire.abandon();
    }

    fn abort(&mut self, code: i32) {
        self.wire.abort(code);
    }
}
