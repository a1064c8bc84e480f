//! Under Open MPI's `mpirun`. Every launch has a time limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::training::tiny;
use crate::workspace::{Workspace, succeed};

/// A launch that is not over by then hangs.
const LIMIT: Duration = Duration::from_mins(2);
/// Seconds from a death to Open MPI's SIGTERM, and from that to its SIGKILL. It then waits for both.
const TIME_TO_SAVE: (&str, &str) = ("OMPI_MCA_odls_base_sigkill_timeout", "3");
const LONG: [&str; 2] = ["--set", "schedule.length=120 steps"];

/// A launch.
struct Job {
    launcher: Child,
    output: PathBuf,
}

impl Job {
    /// - run: its folder.
    fn start(workspace: &Workspace, ranks: usize, run: &str, more: &[&str]) -> Self {
        let train = ["train", "tiny.toml", "--run-dir", run];
        Self::of(workspace, ranks, &[&train[..], more].concat())
    }

    fn of(workspace: &Workspace, ranks: usize, arguments: &[&str]) -> Self {
        Self::with(workspace, ranks, arguments, &[])
    }

    fn with(
        workspace: &Workspace,
        ranks: usize,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let output = workspace.path(&format!("output-{ranks}"));
        let file = fs::File::create(&output).unwrap();
        let mut command = workspace.command(&mpirun(), &["-n", &ranks.to_string()]);
        // Launchers that begin at the same time fail where they make and remove the same folder.
        command.env("TMPDIR", workspace.path(""));
        command
            .args(["--oversubscribe", "--bind-to", "none"])
            .arg(env!("CARGO_BIN_EXE_couplet"))
            .args(arguments)
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let launcher = command.spawn().expect("Open MPI's mpirun is installed");
        Self { launcher, output }
    }

    /// Its exit code and what it printed.
    fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.launcher.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LIMIT {
                let _ = self.launcher.kill();
                panic!("hangs: {}", self.said());
            }
            thread::sleep(Duration::from_millis(5));
        };
        (status.code(), self.said())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    /// Waits until the log of its run has this many lines.
    fn wait_for_lines(&mut self, workspace: &Workspace, run: &str, lines: usize) {
        let metrics = workspace.path(run).join("metrics.jsonl");
        let written = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
        let begun = Instant::now();
        while written() < lines {
            let ended = self.launcher.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < LIMIT,
                "{}",
                self.said()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The process of a rank.
    fn rank(&self, rank: usize) -> u32 {
        let launcher = self.launcher.id();
        let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_wanted = |process: &u32| {
            let of = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).ok();
            let is_child = of("stat").is_some_and(|stat| {
                let rest = stat.rsplit(')').next().unwrap_or_default();
                rest.split_ascii_whitespace().nth(1) == Some(launcher.to_string().as_str())
            });
            is_child && of("environ").is_some_and(|all| all.split('\0').any(|one| one == wanted))
        };
        numbers.find(is_wanted).expect("the rank runs")
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

fn mpirun() -> String {
    if let Ok(named) = env::var("COUPLET_MPIRUN") {
        return named;
    }
    let debian = "mpirun.openmpi";
    let folders = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&folders).any(|folder| folder.join(debian).exists());
    if is_there { debian } else { "mpirun" }.to_string()
}

fn signal(name: &str, process: u32) {
    succeed(Command::new("kill").args([name, &process.to_string()]));
}

/// The checkpoint that a run would go on from, which must be whole.
fn latest(workspace: &Workspace, run: &str) -> u64 {
    succeed(workspace.couplet(&["verify", run]));
    let latest = workspace.read(&format!("{run}/latest"));
    latest.trim().trim_start_matches("step-").parse().unwrap()
}

/// Whether two runs have the same steps, and losses that differ by rounding alone.
fn assert_like(workspace: &Workspace, run: &str, other: &str) {
    let (run, other) = (workspace.losses(run), workspace.losses(other));
    assert_eq!(run.len(), other.len());
    for ((step, loss), (_, expected)) in run.iter().zip(&other) {
        assert!(
            (loss - expected).abs() < 1e-5,
            "step {step}: {loss}, not {expected}"
        );
    }
}

fn weights(workspace: &Workspace, run: &str) -> Vec<u8> {
    let latest = workspace.read(&format!("{run}/latest"));
    let checkpoint = Path::new(run).join("checkpoints").join(latest.trim());
    let file = checkpoint.join("open_clip_model.safetensors");
    fs::read(workspace.path(file.to_str().unwrap())).unwrap()
}

#[test]
fn any_number_of_ranks_has_the_losses_of_one() {
    let workspace = tiny();
    for ranks in [1, 2, 4] {
        let run = ranks.to_string();
        let (code, said) = Job::start(&workspace, ranks, &run, &[]).end();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(said.matches("finished 30 steps").count(), 1, "{said}");
        assert_like(&workspace, &run, "1");
    }
    let (code, said) = Job::start(&workspace, 4, "again", &[]).end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(workspace.metrics("again"), workspace.metrics("4"));
    assert!(weights(&workspace, "again") == weights(&workspace, "4"));
}

#[test]
fn a_run_stopped_with_four_ranks_goes_on_with_two_and_with_one() {
    let workspace = tiny();
    let (code, said) = Job::start(&workspace, 1, "whole", &LONG).end();
    assert_eq!(code, Some(0), "{said}");
    let resume = [LONG[0], LONG[1], "--resume"];
    for (ranks, lines) in [(4, 10), (2, 60)] {
        let mut job = Job::start(&workspace, ranks, "run", &resume);
        job.wait_for_lines(&workspace, "run", lines);
        // Passed on to all ranks, and nobody is killed.
        signal("-USR1", job.launcher.id());
        let (code, said) = job.end();
        assert_eq!(code, Some(130), "{said}");
        let hint = format!("such as `mpirun -n {ranks}`");
        assert_eq!(said.matches(&hint).count(), 1, "{said}");
        let step = latest(&workspace, "run");
        assert_eq!(workspace.losses("run").last().unwrap().0, step);
        assert!(step < 120, "{said}");
    }
    let (code, said) = Job::start(&workspace, 1, "run", &resume).end();
    assert_eq!(code, Some(0), "{said}");
    assert_like(&workspace, "run", "whole");
}

#[test]
fn a_killed_rank_ends_the_job_with_its_name_and_a_whole_checkpoint() {
    let workspace = tiny();
    // Only what survivors save.
    let rare = [&LONG[..], &["--set", "checkpoint.every=1000 steps"]].concat();
    let resume = [&rare[..], &["--resume"]].concat();
    let (code, said) = Job::start(&workspace, 1, "whole", &rare).end();
    assert_eq!(code, Some(0), "{said}");
    for victim in [0, 2] {
        let run = format!("without-{victim}");
        let arguments = [&["train", "tiny.toml", "--run-dir", &run], &rare[..]].concat();
        let mut job = Job::with(&workspace, 4, &arguments, &[TIME_TO_SAVE]);
        job.wait_for_lines(&workspace, &run, 8);
        let process = job.rank(victim);
        signal("-KILL", process);
        let killed = Instant::now();
        let (code, said) = job.end();
        assert!(killed.elapsed() < Duration::from_secs(15), "{said}");
        assert_ne!(code, Some(0), "{said}");
        let named = format!("rank {victim} (process {process} on ");
        assert!(said.contains(&named), "{said}");
        assert_eq!(said.matches("a rank was lost").count(), 1, "{said}");

        let step = latest(&workspace, &run);
        assert_eq!(workspace.losses(&run).last().unwrap().0, step, "{said}");
        let (code, said) = Job::start(&workspace, 2, &run, &resume).end();
        assert_eq!(code, Some(0), "{said}");
        assert_like(&workspace, &run, "whole");
    }
}

#[test]
fn survivors_wait_while_another_process_has_the_folder() {
    let workspace = tiny();
    let often = ["--set", "checkpoint.every=1 step"];
    let train = ["train", "tiny.toml", "--run-dir", "run"];
    let arguments = [&train[..], &LONG, &often].concat();
    let mut job = Job::with(&workspace, 4, &arguments, &[TIME_TO_SAVE]);
    job.wait_for_lines(&workspace, "run", 8);
    let lock = fs::File::open(workspace.path("run/lock")).unwrap();
    assert!(lock.try_lock().is_err(), "rank 0 has it");
    signal("-KILL", job.rank(0));
    // Before the others have noticed.
    while lock.try_lock().is_err() {}
    // As if it had ended before it replaced this.
    fs::remove_file(workspace.path("run/latest")).unwrap();
    thread::sleep(Duration::from_millis(1500));
    assert!(!workspace.path("run/latest").exists());
    drop(lock);
    let (code, said) = job.end();
    assert_ne!(code, Some(0), "{said}");
    let step = latest(&workspace, "run");
    assert_eq!(workspace.losses("run").last().unwrap().0, step, "{said}");
}

#[test]
fn a_survivor_that_does_not_see_the_folder_says_so() {
    let workspace = tiny();
    let train = |run| [&["train", "tiny.toml", "--run-dir", run], &LONG[..]].concat();
    let couplet = env!("CARGO_BIN_EXE_couplet");
    let other = [":", "-n", "1", couplet];
    let arguments = [&train("here")[..], &other, &train("elsewhere")].concat();
    let mut job = Job::of(&workspace, 1, &arguments);
    job.wait_for_lines(&workspace, "here", 8);
    signal("-KILL", job.rank(0));
    let (code, said) = job.end();
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("elsewhere: not the run's folder"), "{said}");
    assert!(!workspace.path("elsewhere").exists());
}

#[test]
fn what_fails_on_one_rank_ends_all_with_its_words() {
    let workspace = tiny();
    let data = ["data", "shapes", "--samples", "80", "--image-size", "16"];
    let mut command = workspace.couplet(&data);
    succeed(command.args(["--samples-per-shard", "20", "shards"]));
    let shards = fs::read_dir(workspace.path("shards")).unwrap();
    let mut shards: Vec<PathBuf> = shards.map(|shard| shard.unwrap().path()).collect();
    shards.retain(|shard| shard.extension().is_some_and(|kind| kind == "tar"));
    shards.sort();
    let mut bytes = fs::read(&shards[2]).unwrap();
    let middle = bytes.len() / 3..bytes.len() / 3 * 2;
    bytes[middle].fill(7);
    fs::write(&shards[2], bytes).unwrap();
    let train = "data.train={source='webdataset', shards='shards/*.tar'}";
    let strict = ["--set", train, "--set", "data.max_skipped=0"];
    let (code, said) = Job::start(&workspace, 2, "run", &strict).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("data.max_skipped"), "{said}");
    assert_eq!(said.matches("the run failed").count(), 1, "{said}");

    // Another command on one rank.
    let couplet = env!("CARGO_BIN_EXE_couplet");
    let good = ["train", "tiny.toml", "--run-dir", "other"];
    let bad = [":", "-n", "1", couplet, "train", "missing.toml"];
    let (code, said) = Job::of(&workspace, 1, &[&good[..], &bad[..]].concat()).end();
    assert!(matches!(code, Some(1 | 2)), "{said}");
    assert!(said.contains("rank 1 (process"), "{said}");
    assert!(said.contains("missing.toml"), "{said}");
    assert!(!workspace.path("other").exists());
}

#[test]
fn ranks_that_cannot_share_a_batch_leave_no_folder() {
    let workspace = tiny();
    let odd = ["--set", "batch.parts=2"];
    let (code, said) = Job::start(&workspace, 4, "run", &odd).end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("start 1, 2 ranks").count(), 1, "{said}");
    assert!(!workspace.path("run").exists());
    // So the command with another number is that of a new run.
    let (code, said) = Job::start(&workspace, 2, "run", &odd).end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn other_commands_say_once_that_they_run_in_one_process() {
    let workspace = tiny();
    let (code, said) = Job::of(&workspace, 2, &["plan", "tiny.toml"]).end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said.matches("`couplet plan` runs in one").count(),
        1,
        "{said}"
    );
}
