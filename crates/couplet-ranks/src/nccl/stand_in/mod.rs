//! The exchanges over a stand-in for NCCL and the driver, built from C: it knows the functions by their headers,
//! and ranks are threads.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::buffer::Floats;
use super::library::Nccl as Library;
use super::plane::{Exchanged, Nccl};
use crate::lost::Cause;
use crate::patience::Patience;
use crate::team::Team;
use crate::threads::ThreadWire;

/// The library, in a folder that lasts as long as the tests.
static BUILT: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libstand_in.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/nccl/stand_in/stand_in.c");
    let compiled = Command::new("cc")
        .args([
            "-std=c11",
            "-D_DEFAULT_SOURCE",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O1",
        ])
        .args(["-shared", "-fPIC", "-pthread", source, "-o"])
        .arg(&library)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{words}");
    (folder, library)
});

/// Starts a rank on each of `devices`, with exchanges that wait for `limit`.
/// - work: gets what came of joining the ranks.
fn on_devices<T: Send>(
    devices: &[usize],
    limit: Duration,
    work: impl Fn(&Team, Result<Nccl, String>) -> T + Sync,
) -> Vec<T> {
    let path = BUILT.1.to_str().unwrap();
    thread::scope(|scope| {
        let start = |(wire, device): (ThreadWire, &usize)| {
            let (work, device) = (&work, *device);
            scope.spawn(move || {
                let patience = Patience::of(limit);
                let team = Team::start(|| Ok::<_, Infallible>(wire), patience).unwrap();
                let library = Library::open_at(path, path);
                let nccl = Nccl::start_with(&team, library, device);
                work(&team, nccl.map_err(|error| error.to_string()))
            })
        };
        let wires = ThreadWire::team(devices.len()).into_iter();
        let ranks: Vec<_> = wires.zip(devices).map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

const LONG: Duration = Duration::from_mins(1);
/// For a machine that is busy.
const SLACK: Duration = Duration::from_secs(20);

fn values(len: usize, rank: usize) -> Vec<f32> {
    let value = |at: usize| u16::try_from((at + 31 * rank) % 1009).map_or(0.0, f32::from);
    (0..len).map(value).collect()
}

#[test]
fn sums_and_gathers_have_the_values_of_all_ranks() {
    const LENS: [usize; 3] = [1, 17, 5003];
    on_devices(&[0, 0, 0], LONG, |team, nccl| {
        let (nccl, rank) = (nccl.unwrap(), team.place().rank);
        assert_eq!(nccl.version(), "2.32.3");
        for round in 0..3 {
            let own = LENS.map(|len| Floats::of_host(&values(len, rank + round)));
            let results = LENS.map(|len| Floats::of_host(&vec![0.0; 3 * len]));
            let [(own_0, all_0), (own_1, all_1), (own_2, all_2)] =
                [0, 1, 2].map(|at| (own[at].share(), results[at].share()));
            let exchanges = vec![
                Exchanged::Sum {
                    own: own_0,
                    sum: all_0,
                },
                Exchanged::Gather {
                    own: own_1,
                    all: all_1,
                },
                Exchanged::Sum {
                    own: own_2,
                    sum: all_2,
                },
            ];
            nccl.start_exchanges("floats", exchanges).wait().unwrap();
            let of_all = |len| (0..3).map(move |rank| values(len, rank + round));
            let sum = |len: usize| -> Vec<f32> {
                let at = |at: usize| of_all(len).map(|values| values[at]).sum();
                (0..len).map(at).collect()
            };
            assert_eq!(results[0].host()[..1], sum(1));
            assert_eq!(results[1].host(), of_all(17).collect::<Vec<_>>().concat());
            assert_eq!(results[2].host()[..5003], sum(5003));
            assert!(results[2].host()[5003..].iter().all(|rest| *rest == 0.0));
        }
        // No rank ends while another is in an exchange.
        team.gather("the others", Vec::new()).wait().unwrap();
    });
}

#[test]
fn a_rank_that_does_not_come_is_given_up() {
    LazyLock::force(&BUILT);
    let began = Instant::now();
    let limit = Duration::from_secs(2);
    on_devices(&[0, 0], limit, |team, nccl| {
        let nccl = nccl.unwrap();
        if team.place().rank == 1 {
            thread::sleep(2 * limit);
            return;
        }
        let exchange = || Exchanged::Sum {
            own: Floats::of_host(&[1.0; 9]),
            sum: Floats::of_host(&[0.0; 9]),
        };
        let lost = nccl
            .start_exchanges("the sum", vec![exchange()])
            .wait()
            .unwrap_err();
        assert!(matches!(lost.cause, Cause::Late { .. }), "{lost}");
        assert!(
            lost.to_string().ends_with("while waiting for the sum"),
            "{lost}"
        );
        // No later exchange comes about, by NCCL or by the wire.
        assert!(
            nccl.start_exchanges("more", vec![exchange()])
                .wait()
                .is_err()
        );
        assert_eq!(team.lost(), Some(lost));
    });
    assert!(began.elapsed() < 4 * limit + SLACK);
}

#[test]
fn what_nccl_says_of_a_lost_peer_is_passed_on() {
    on_devices(&[2, 2], LONG, |_, nccl| {
        let exchange = Exchanged::Gather {
            own: Floats::of_host(&[1.0; 4]),
            all: Floats::of_host(&[0.0; 8]),
        };
        let lost = nccl
            .unwrap()
            .start_exchanges("rows", vec![exchange])
            .wait()
            .unwrap_err();
        let words = lost.to_string();
        let expected = "NCCL 2.32.3: ncclCommGetAsyncError: remote process exited or there was a network error: \
                        socket closed by the peer; NCCL_DEBUG=WARN prints more, while waiting for rows";
        assert_eq!(words, expected);
    });
}

#[test]
fn the_rank_without_a_gpu_is_the_one_that_all_name() {
    LazyLock::force(&BUILT);
    let began = Instant::now();
    let limit = Duration::from_secs(8);
    let all = on_devices(&[0, 1], limit, |_, nccl| nccl.unwrap_err());
    for words in all {
        assert!(words.starts_with("rank 1 (process "), "{words}");
        assert!(
            words.contains("cuDeviceGet: CUDA_ERROR_INVALID_DEVICE (101)"),
            "{words}"
        );
    }
    assert!(began.elapsed() < 4 * limit + SLACK);
}

#[test]
fn ranks_that_never_connect_are_not_waited_for() {
    let limit = Duration::from_secs(4);
    let all = on_devices(&[3, 3], limit, |_, nccl| nccl.unwrap_err());
    for words in all {
        assert!(words.starts_with("rank 0 (process "), "{words}");
        assert!(words.contains("NCCL 2.32.3"), "{words}");
    }
}
