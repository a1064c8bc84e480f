//! Training on shards in object stores, served on loopback.
#![cfg(feature = "object-store")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

const CONFIG: &str = r#"
name = "remote"
device = "flex"
[model]
embed_dim = 8
[model.image]
kind = "vit"
image_size = 16
patch_size = 8
width = 8
layers = 1
heads = 1
[model.text]
context_length = 16
vocab_size = 49408
width = 8
layers = 1
heads = 1
[data.train]
source = "webdataset"
shards = "SHARDS"
stream = true
shuffle_buffer = 40
samples_per_epoch = 200
[batch]
global = 20
[optimizer]
kind = "adamw"
lr = 1e-3
[schedule]
kind = "cosine"
length = "2 epochs"
[log]
every = "1 step"
[checkpoint]
every = "3 steps"
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Six shards of 50 samples, about 2 MB each: pictures of noise, so that they are read
    /// in several pieces once they are padded.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("shards");
        let arguments = ["data", "shapes", "--samples", "300", "--image-size", "160"];
        let output = Command::new(env!("CARGO_BIN_EXE_couplet"))
            .args(arguments)
            .args(["--samples-per-shard", "50"])
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        // Bytes that belong to no sample make a shard several pieces long.
        for shard in fs::read_dir(&out).unwrap() {
            let path = shard.unwrap().path();
            let mut builder = tar::Builder::new(Vec::new());
            let mut old = tar::Archive::new(fs::File::open(&path).unwrap());
            for member in old.entries().unwrap() {
                let mut member = member.unwrap();
                let mut bytes = Vec::new();
                member.read_to_end(&mut bytes).unwrap();
                builder
                    .append(&member.header().clone(), &bytes[..])
                    .unwrap();
                if member.path_bytes().ends_with(b"5.txt") {
                    let name = String::from_utf8_lossy(&member.path_bytes()).replace("txt", "raw");
                    let mut header = tar::Header::new_ustar();
                    header.set_size(2 << 20);
                    let padding = vec![7; 2 << 20];
                    builder
                        .append_data(&mut header, name, &padding[..])
                        .unwrap();
                }
            }
            fs::write(&path, builder.into_inner().unwrap()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, shards: &str) -> PathBuf {
        let path = self.path("config.toml");
        fs::write(&path, CONFIG.replace("SHARDS", shards)).unwrap();
        path
    }

    fn train(&self, run: &str, shards: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        command.arg("train").arg(self.config(shards));
        command.arg("--run-dir").arg(self.path(run));
        command
    }

    fn losses(&self, run: &str) -> Vec<(u64, f64)> {
        let lines = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| {
                (
                    line["step"].as_u64().unwrap(),
                    line["loss"].as_f64().unwrap(),
                )
            })
            .collect()
    }

    fn losses_from_disk(&self) -> Vec<(u64, f64)> {
        let shards = format!(
            "{}/shards/{{000000..000005}}.tar",
            self.folder.path().display()
        );
        let output = self.train("disk", &shards).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let losses = self.losses("disk");
        assert_eq!(losses.len(), 20);
        losses
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// How a server fails.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// It breaks off every third answer and refuses every fifth request.
    Flaky,
    /// It breaks off every answer behind so many bytes.
    Chops(usize),
    /// It says nothing more of a shard of this name behind so many bytes.
    Silent(&'static str, usize),
}

fn server(root: PathBuf, manner: Manner) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = failures.clone();
    std::thread::spawn(move || {
        let requests = AtomicUsize::new(0);
        let requests = Arc::new(requests);
        for connection in listener.incoming() {
            let (root, requests, failures) = (root.clone(), requests.clone(), counted.clone());
            std::thread::spawn(move || {
                let _ = serve(&connection.unwrap(), &root, manner, &requests, &failures);
            });
        }
    });
    (port, failures)
}

fn serve(
    mut connection: &TcpStream,
    root: &Path,
    manner: Manner,
    requests: &AtomicUsize,
    failures: &AtomicUsize,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(asked) = line.strip_prefix("range: bytes=") {
            let (first, last) = asked.split_once('-').unwrap();
            range = Some((first.parse().unwrap(), last.parse::<usize>().unwrap() + 1));
        }
        if line.is_empty() {
            break;
        }
    }
    let number = requests.fetch_add(1, Ordering::Relaxed);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let Ok(bytes) = fs::read(root.join(path.trim_start_matches('/'))) else {
        return connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    };
    if manner == Manner::Flaky && number % 5 == 4 {
        failures.fetch_add(1, Ordering::Relaxed);
        let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return connection.write_all(busy);
    }
    let (status, body, extra) = match range {
        Some((first, last)) => {
            let last: usize = bytes.len().min(last);
            let range = format!(
                "content-range: bytes {first}-{}/{}\r\n",
                last - 1,
                bytes.len()
            );
            ("206 Partial Content", &bytes[first..last], range)
        }
        None => ("200 OK", &bytes[..], String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{extra}connection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    if request.starts_with("HEAD") {
        return Ok(());
    }
    let given = match manner {
        Manner::Flaky if number % 3 == 2 => body.len() / 2,
        Manner::Chops(len) => body.len().min(len),
        Manner::Silent(name, len) if path.ends_with(name) => {
            let first = range.map_or(0, |(first, _)| first);
            body.len().min(len.saturating_sub(first))
        }
        _ => body.len(),
    };
    failures.fetch_add(usize::from(given < body.len()), Ordering::Relaxed);
    connection.write_all(&body[..given])?;
    if let Manner::Silent(..) = manner
        && given < body.len()
    {
        std::thread::sleep(Duration::from_mins(2));
    }
    Ok(())
}

fn wait_for_lines(folder: &Path, lines: usize) {
    let start = Instant::now();
    let metrics = folder.join("metrics.jsonl");
    while fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < lines {
        assert!(start.elapsed() < Duration::from_mins(2), "no {lines} lines");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_that_fails_gives_the_same_run_as_a_disk_also_after_a_kill() {
    let place = Place::new();
    let from_disk = place.losses_from_disk();
    let (port, failures) = server(place.path("shards"), Manner::Flaky);
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    let mut child = place
        .train("http", &shards)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_lines(&place.path("http"), 5);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = place
        .train("http", &shards)
        .arg("--resume")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.losses("http"), from_disk);
    assert!(failures.load(Ordering::Relaxed) > 5);
    let skipped = fs::read_to_string(place.path("http/skipped.jsonl")).unwrap();
    assert_eq!(skipped, "");
}

#[test]
fn answers_that_break_off_are_gone_on_with() {
    let place = Place::new();
    let (port, failures) = server(place.path("shards"), Manner::Chops(700_000));
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    let output = place.train("chops", &shards).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.losses("chops"), place.losses_from_disk());
    assert!(failures.load(Ordering::Relaxed) > 20);
}

#[test]
fn a_server_that_falls_silent_costs_the_rest_of_the_shard_and_no_more_than_its_timeout() {
    let place = Place::new();
    let len = fs::metadata(place.path("shards/000002.tar")).unwrap().len();
    let half = usize::try_from(len / 2).unwrap();
    let (port, _) = server(place.path("shards"), Manner::Silent("2.tar", half));
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    let mut command = place.train("silent", &shards);
    command.args(["--set", "data.train.server_timeout=3"]);
    command.args(["--set", "data.train.samples_per_epoch=300"]);
    // About 25 of 300 samples are lost in each pass.
    let start = Instant::now();
    let output = command
        .args(["--set", "data.max_skipped=0.3"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        start.elapsed() < Duration::from_mins(1),
        "{:?}",
        start.elapsed()
    );
    let skipped = fs::read_to_string(place.path("silent/skipped.jsonl")).unwrap();
    let lines: Vec<Value> = (skipped.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let rest = lines.iter().find(|line| line["cause"] == "unreadable");
    let rest = rest.expect("a line of the shard");
    assert!(
        (15..36).contains(&rest["samples"].as_u64().unwrap()),
        "{rest}"
    );
    let detail = rest["detail"].as_str().unwrap();
    assert!(detail.contains("without a byte within 3 s"), "{detail}");
    // As many as the rest of a shard are too many here.
    let mut command = place.train("strict", &shards);
    command.args(["--set", "data.train.server_timeout=3"]);
    command.args(["--set", "data.train.samples_per_epoch=300"]);
    let output = command
        .args(["--set", "data.max_skipped=0.05"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("data.max_skipped"),
        "{}",
        text(&output)
    );
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    let (port, _) = server(place.path("shards"), Manner::Flaky);
    let output = place.train("none", &format!("http://127.0.0.1:{port}/nowhere.tar"));
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("nowhere.tar"), "{}", text(&output));
    // One of several is a shard that cannot be read: it is listed, and the rest is trained.
    let shards = format!("http://127.0.0.1:{port}/{{000004..000006}}.tar");
    let mut command = place.train("some", &shards);
    let output = command
        .args(["--set", "data.max_skipped=0.4"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let skipped = fs::read_to_string(place.path("some/skipped.jsonl")).unwrap();
    assert!(
        skipped.contains("000006.tar") && skipped.contains("unreadable"),
        "{skipped}"
    );
    let output = place.train("glob", &format!("http://127.0.0.1:{port}/*.tar"));
    let output = { output }.output().unwrap();
    assert!(
        text(&output).contains("cannot be listed"),
        "{}",
        text(&output)
    );
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `COUPLET_PYTHON`, which `.ci/run` sets, or `python3` if it has the module.
fn python_with(module: &str) -> Option<String> {
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

/// A free port, and a server on it.
fn start(mut command: Command, port: u16) -> Server {
    let server = Server(
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "the server does not start"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Python's own web server knows no ranges.
#[test]
fn a_server_without_ranges_will_do() {
    let Some(python) = python_with("http.server") else {
        return;
    };
    let place = Place::new();
    let port = free_port();
    let mut command = Command::new(python);
    command.args([
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        &port.to_string(),
    ]);
    command.arg("--directory").arg(place.path("shards"));
    let _server = start(command, port);
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    let output = place.train("plain", &shards).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.losses("plain"), place.losses_from_disk());
}

/// moto stands in for Amazon's store.
#[test]
fn a_bucket_is_listed_and_read() {
    let Some(python) = python_with("moto.server, boto3") else {
        return;
    };
    let place = Place::new();
    let port = free_port();
    let mut command = Command::new(&python);
    command.args([
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        &port.to_string(),
    ]);
    let _server = start(command, port);
    let endpoint = format!("http://127.0.0.1:{port}");
    let keys = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &endpoint),
    ];
    let upload = "import sys, boto3, pathlib\n\
        s3 = boto3.client('s3')\n\
        s3.create_bucket(Bucket='pairs')\n\
        for path in pathlib.Path(sys.argv[1]).iterdir():\n    \
            s3.upload_file(str(path), 'pairs', f'train/{path.name}')\n    \
            s3.upload_file(str(path), 'pairs', f'train/deeper/{path.name}')\n";
    let mut command = Command::new(&python);
    let output = command
        .args(["-c", upload])
        .arg(place.path("shards"))
        .envs(keys)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let output = place
        .train("s3", "s3://pairs/train/*.tar")
        .envs(keys)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.losses("s3"), place.losses_from_disk());
    let output = place
        .train("none", "s3://pairs/test/*.tar")
        .envs(keys)
        .output()
        .unwrap();
    assert!(
        text(&output).contains("no object matches"),
        "{}",
        text(&output)
    );
}
