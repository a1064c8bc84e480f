//! Exchanges over MPI: this program starts itself under `mpirun`, kills ranks, and looks at what the others say.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use couplet_ranks::{Cause, Lost, Mpi, Patience, Team, ThreadWire};

/// What a rank does, and the folder for what it finds.
const PART: &str = "COUPLET_TEST_PART";
const FOLDER: &str = "COUPLET_TEST_FOLDER";

fn main() {
    if let Ok(part) = env::var(PART) {
        return be_a_rank(&part);
    }
    for ranks in [1, 2, 4] {
        every_exchange_gives_the_bits_of_threads(ranks);
    }
    for victims in [&[0][..], &[2], &[0, 1]] {
        killed_ranks_are_named(victims, &[]);
    }
    killed_ranks_are_named(&[0], &["--mca", "btl", "tcp,self"]);
    killed_ranks_are_named(&[2], &["--mca", "btl", "tcp,self"]);
    a_panicking_rank_ends_the_job();
    a_rank_that_does_not_come_is_named();
}

fn every_exchange_gives_the_bits_of_threads(ranks: usize) {
    let over_threads: Vec<_> = (ThreadWire::team(ranks).into_iter())
        .map(|wire| {
            thread::spawn(move || {
                let patience = Patience::of(Duration::from_secs(20));
                exchange_all(&Team::start(|| Ok::<_, Infallible>(wire), patience).unwrap())
            })
        })
        .collect();
    let job = Job::start("exchange", ranks, &[]);
    let (code, folder) = job.end(Duration::from_mins(1));
    assert_eq!(code, Some(0), "{}", said(folder.path()));
    for (rank, thread) in over_threads.into_iter().enumerate() {
        let found = fs::read_to_string(folder.path().join(format!("rank{rank}"))).unwrap();
        assert!(!found.is_empty());
        assert_eq!(found, thread.join().unwrap(), "rank {rank} of {ranks}");
    }
    println!("test every_exchange_gives_the_bits_of_threads ({ranks} ranks) ... ok");
}

fn killed_ranks_are_named(victims: &[usize], options: &[&str]) {
    const RANKS: usize = 3;
    // Over TCP, the library of Open MPI 5 ends the job itself.
    if !(options.is_empty() || version().contains(" 4.")) {
        return;
    }
    let job = Job::start("endless", RANKS, options);
    let processes: Vec<u32> = (0..RANKS)
        .map(|rank| job.read(rank).parse().unwrap())
        .collect();
    thread::sleep(Duration::from_millis(300));
    let killed: Vec<_> = victims.iter().map(|rank| processes[*rank]).collect();
    signal("-KILL", &killed);
    let killed = Instant::now();
    let (_, folder) = job.end(Duration::from_secs(15));
    let over = killed.elapsed();
    if !version().contains("(Open MPI) 4") {
        // Open MPI 5 and MPICH may kill the others before they can say anything.
        return;
    }
    for rank in (0..RANKS).filter(|rank| !victims.contains(rank)) {
        let lost = fs::read_to_string(folder.path().join(format!("lost{rank}")));
        let lost =
            lost.unwrap_or_else(|_| panic!("rank {rank} says nothing: {}", said(folder.path())));
        for victim in victims {
            let expected = format!("rank {victim} (process {}", processes[*victim]);
            assert!(lost.contains(&expected), "{lost}");
        }
    }
    println!(
        "test killed_ranks_are_named ({victims:?}, {options:?}: over after {over:.1?}) ... ok"
    );
}

fn a_panicking_rank_ends_the_job() {
    const RANKS: usize = 3;
    let job = Job::start("panic", RANKS, &[]);
    let process = job.read(1);
    let begun = Instant::now();
    let (code, folder) = job.end(Duration::from_secs(15));
    let over = begun.elapsed();
    assert_eq!(code, Some(1), "{}", said(folder.path()));
    for rank in [0, 2] {
        let lost = fs::read_to_string(folder.path().join(format!("lost{rank}")));
        let lost =
            lost.unwrap_or_else(|_| panic!("rank {rank} says nothing: {}", said(folder.path())));
        assert!(
            lost.starts_with(&format!("rank 1 (process {process} on ")),
            "{lost}"
        );
    }
    println!("test a_panicking_rank_ends_the_job (over after {over:.1?}) ... ok");
}

fn a_rank_that_does_not_come_is_named() {
    let job = Job::start("absent", 4, &[]);
    let (code, folder) = job.end(Duration::from_mins(1));
    if is_open_mpi() {
        assert_eq!(code, Some(75), "{}", said(folder.path()));
    }
    for rank in [0, 1, 3] {
        let lost = fs::read_to_string(folder.path().join(format!("lost{rank}"))).unwrap();
        assert!(lost.starts_with("rank 2 (process"), "{lost}");
        assert!(lost.contains("did not come within"), "{lost}");
        assert!(!lost.contains(", rank"), "{lost}");
    }
    println!("test a_rank_that_does_not_come_is_named ... ok");
}

/// Ranks under `mpirun`.
struct Job {
    launcher: Launcher,
    folder: tempfile::TempDir,
}

/// Leaves no ranks behind.
struct Launcher(Child);

impl Drop for Launcher {
    fn drop(&mut self) {
        let is_over = |launcher: &mut Child| launcher.try_wait().is_ok_and(|code| code.is_some());
        if is_over(&mut self.0) {
            return;
        }
        // It kills its ranks only if it is asked to end.
        signal("-TERM", &[self.0.id()]);
        let begun = Instant::now();
        while !is_over(&mut self.0) {
            if begun.elapsed() > Duration::from_secs(5) {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Job {
    fn start(part: &str, ranks: usize, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = File::create(folder.path().join("output")).unwrap();
        let mut command = Command::new(mpirun());
        command.args(["-n", &ranks.to_string()]);
        if is_open_mpi() {
            command.args(["--oversubscribe", "--bind-to", "none"]);
        }
        command.args(options);
        if is_open_mpi() {
            // As the trainer, which saves then: where two have died, Open MPI sends SIGTERM at once.
            command.args(["sh", "-c", "trap '' TERM; exec \"$0\""]);
        }
        command
            .arg(env::current_exe().unwrap())
            .env(PART, part)
            .env(FOLDER, folder.path())
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let launcher = command.spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start {}: {error}; install Open MPI or MPICH",
                mpirun().display()
            )
        });
        let launcher = Launcher(launcher);
        Self { launcher, folder }
    }

    /// What a rank has written, once it has.
    fn read(&self, rank: usize) -> String {
        let path = self.folder.path().join(format!("rank{rank}"));
        let begun = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(&path)
                && !text.is_empty()
            {
                return text;
            }
            let waited = begun.elapsed();
            assert!(
                waited < Duration::from_secs(30),
                "{}",
                said(self.folder.path())
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its exit code. Panics if it is not over in time.
    fn end(mut self, limit: Duration) -> (Option<i32>, tempfile::TempDir) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.launcher.0.try_wait().unwrap() {
                return (status.code(), self.folder);
            }
            assert!(
                begun.elapsed() < limit,
                "not over after {limit:?}: {}",
                said(self.folder.path())
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The launcher of the library that this program is linked with.
fn mpirun() -> PathBuf {
    if let Some(path) = env::var_os("COUPLET_MPIRUN") {
        return path.into();
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let debian = env::split_paths(&folders).map(|folder| folder.join("mpirun.openmpi"));
    debian
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| "mpirun".into())
}

fn is_open_mpi() -> bool {
    version().contains("Open MPI")
}

/// What the launcher says, such as `mpirun.openmpi (OpenRTE) 4.1.4` and a line with `open-mpi.org`.
fn version() -> String {
    let version = Command::new(mpirun()).arg("--version").output();
    let version = version.map_or_else(|_| Vec::new(), |version| version.stdout);
    String::from_utf8_lossy(&version).replace("OpenRTE", "Open MPI")
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("output")).unwrap_or_default()
}

fn signal(signal: &str, processes: &[u32]) {
    let processes = processes.iter().map(ToString::to_string);
    // Some may have ended: launchers kill all once the first has.
    let _ = Command::new("kill").arg(signal).args(processes).status();
}

fn be_a_rank(part: &str) {
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let limit = Duration::from_secs(if part == "absent" { 10 } else { 20 });
    let team = Team::start(Mpi::start, Patience::of(limit)).unwrap();
    let rank = team.place().rank;
    match part {
        "exchange" => write(&folder, format!("rank{rank}"), exchange_all(&team)),
        "endless" => {
            write(&folder, format!("rank{rank}"), process::id().to_string());
            let lost = exchange_on(&team);
            leave(&folder, rank, &lost, 75);
        }
        "panic" => {
            if rank == 1 {
                team.sum("the gradients", vec![vec![1.0; 100_000]])
                    .wait()
                    .unwrap();
                write(&folder, format!("rank{rank}"), process::id().to_string());
                // The others do not join the second of these two at once.
                let _first = team.sum("the gradients", vec![vec![1.0; 100_000]]);
                let _second = team.sum("the gradients", vec![vec![1.0; 100_000]]);
                panic!("a test panics");
            }
            let lost = exchange_on(&team);
            let Cause::Aborted { code, .. } = lost.cause else {
                panic!("{lost}");
            };
            leave(&folder, rank, &lost, code);
        }
        "absent" => {
            if rank == 2 {
                thread::sleep(Duration::from_secs(40));
            }
            // Ranks that begin to wait at other times find the same.
            thread::sleep(Duration::from_millis(500) * u32::try_from(rank).unwrap());
            let lost = team
                .all_gather("the gradients", vec![0; 10])
                .wait()
                .unwrap_err();
            assert!(matches!(lost.cause, Cause::Late { .. }), "{lost}");
            leave(&folder, rank, &lost, 75);
        }
        other => panic!("unknown part {other}"),
    }
}

/// Writes why the others are lost, as a rank would save, and ends the process.
fn leave(folder: &Path, rank: usize, lost: &Lost, code: i32) -> ! {
    write(folder, format!("lost{rank}"), lost.to_string());
    // Whoever leaves first takes the others along.
    thread::sleep(Duration::from_millis(500));
    process::exit(code);
}

/// Exchanges until a rank is lost.
fn exchange_on(team: &Team) -> Lost {
    // No test takes this long: no rank outlives a test that is killed.
    let end = Instant::now() + Duration::from_mins(1);
    while Instant::now() < end {
        match team.sum("the gradients", vec![vec![1.0; 100_000]]).wait() {
            Ok(_) => thread::sleep(Duration::from_millis(5)),
            Err(lost) => return lost,
        }
    }
    panic!("no rank is lost");
}

/// At once, so that nobody reads half of it.
fn write(folder: &Path, name: impl AsRef<OsStr>, text: String) {
    let name = Path::new(name.as_ref());
    let unfinished = folder.join(name.with_extension("part"));
    fs::write(&unfinished, text).unwrap();
    fs::rename(unfinished, folder.join(name)).unwrap();
}

/// What all exchanges give this rank, as text with every bit.
fn exchange_all(team: &Team) -> String {
    let rank = team.place().rank;
    let mut found = BTreeMap::new();
    for len in [0, 1, 7, 100, 5_000, 300_001, 1_700_003] {
        let bytes: Vec<u8> = (0..len).map(|at| draw(rank, at).to_le_bytes()[3]).collect();
        // Sums whose order shows.
        let values: Vec<f32> = (0..len)
            .map(|at| f32::from_bits(0x3f00_0000 | (draw(rank, at) & 0xff_ffff)))
            .collect();
        let other = bytes[..len / (rank + 1)].to_vec();
        let same = team.all_gather("bytes", bytes.clone());
        let any = team.gather("messages", other);
        let first = team.broadcast("the first", bytes);
        // Of several exchanges each for two ranks.
        let (head, tail) = values.split_at(len / 3);
        let sum = team.sum("values", vec![head.to_vec(), tail.to_vec()]);
        found.insert((len, "all_gather"), digest(&same.wait().unwrap()));
        found.insert((len, "gather"), digest(&any.wait().unwrap().concat()));
        found.insert((len, "broadcast"), digest(&first.wait().unwrap()));
        let sum: Vec<u8> = sum
            .wait()
            .unwrap()
            .concat()
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        found.insert((len, "sum"), digest(&sum));
    }
    format!("{found:?}")
}

fn draw(rank: usize, at: usize) -> u32 {
    let seed = u32::try_from(rank * 1_000_003 + at).unwrap();
    let mixed = seed.wrapping_mul(0x9e37_79b9) ^ (seed >> 7);
    mixed.wrapping_mul(0x85eb_ca6b) ^ (mixed >> 13)
}

/// FNV-1a.
fn digest(bytes: &[u8]) -> (usize, u64) {
    let digest = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (bytes.len(), digest)
}
