//! A temporary folder for a test, the binary run in it, and the files it wrote.

use std::borrow::BorrowMut;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    /// A folder with these files.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Self { folder };
        for (name, text) in files {
            fs::write(workspace.path(name), text).unwrap();
        }
        workspace
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    pub fn json_lines(&self, name: &str) -> Vec<Value> {
        let text = self.read(name);
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    /// The lines of a run's `metrics.jsonl`, without what depends on the clock.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let mut lines = self.json_lines(&format!("{run}/metrics.jsonl"));
        for line in &mut lines {
            let map = line.as_object_mut().unwrap();
            for timing in ["time", "samples_per_second", "data_wait"] {
                map.remove(timing);
            }
        }
        lines
    }

    /// Each loss of a run, with its step.
    pub fn losses(&self, run: &str) -> Vec<(u64, f64)> {
        let loss = |line: &Value| Some((line["step"].as_u64()?, line["loss"].as_f64()?));
        self.metrics(run).iter().filter_map(loss).collect()
    }

    /// The binary in this folder, with its feature cache here too.
    pub fn couplet(&self, arguments: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_couplet"), arguments)
    }

    /// A program in this folder, with the binary's feature cache here too.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Starts a run and kills it once its log has this many lines: no handler of ours runs.
    pub fn kill_after(&self, mut command: impl BorrowMut<Command>, run: &str, lines: usize) {
        let command = command.borrow_mut().stdout(Stdio::null());
        let mut child = Ended(command.spawn().unwrap());
        self.wait_for_lines(&mut child, run, lines);
    }

    /// Starts a run and asks it to end once its log has this many lines.
    #[cfg(unix)]
    pub fn stop_after(
        &self,
        mut command: impl BorrowMut<Command>,
        run: &str,
        lines: usize,
    ) -> Output {
        let (out, err) = (self.path("stopped.out"), self.path("stopped.err"));
        let command = command
            .borrow_mut()
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap());
        let mut child = Ended(command.spawn().unwrap());
        self.wait_for_lines(&mut child, run, lines);
        let mut kill = Command::new("kill");
        succeed(kill.args(["-TERM", &child.0.id().to_string()]));
        Output {
            status: child.0.wait().unwrap(),
            stdout: fs::read(out).unwrap(),
            stderr: fs::read(err).unwrap(),
        }
    }

    /// Waits until a run's log has this many lines, or the run has ended.
    pub fn wait_for_lines(&self, child: &mut Ended, run: &str, lines: usize) {
        let start = Instant::now();
        let metrics = self.path(run).join("metrics.jsonl");
        let written = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
        while written() < lines && child.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_mins(2), "no {lines} lines");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A process that is killed when its test ends.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Standard output, then standard error.
pub fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// - returns its output.
pub fn succeed(mut command: impl BorrowMut<Command>) -> String {
    let output = command.borrow_mut().output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

/// - returns its output.
pub fn fail(mut command: impl BorrowMut<Command>, code: i32) -> String {
    let output = command.borrow_mut().output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

/// `COUPLET_PYTHON`, which must have the module, or `python3` if it has it.
pub fn python_with(module: &str) -> Option<String> {
    let named = std::env::var("COUPLET_PYTHON");
    let python = named.clone().unwrap_or_else(|_| "python3".into());
    let import = format!("import {module}");
    let found = Command::new(&python)
        .args(["-c", &import])
        .stderr(Stdio::null())
        .status();
    if found.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    assert!(named.is_err(), "{python} has no {module}");
    eprintln!("not tried: {python} has no {module}");
    None
}
