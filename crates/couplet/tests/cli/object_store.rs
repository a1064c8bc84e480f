//! Training on shards in object stores, served on loopback.

use std::fs;
use std::io::Read;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::servers::{Manner, free_port, server, start};
use crate::workspace::{Workspace, fail, python_with, succeed, text};

const CONFIG: &str = r#"
name = "remote"
device = "cpu"
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

/// Six shards of 50 noise images, about 2 MB each, padded so that they are read in several
/// pieces.
fn sharded() -> Workspace {
    let workspace = Workspace::with(&[]);
    let data = ["data", "shapes", "--samples", "300", "--image-size", "160"];
    let mut command = workspace.couplet(&data);
    succeed(command.args(["--samples-per-shard", "50", "shards"]));
    // Bytes that belong to no sample make a shard several pieces long.
    for shard in fs::read_dir(workspace.path("shards")).unwrap() {
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
    workspace
}

fn train(workspace: &Workspace, run: &str, shards: &str) -> Command {
    let config = CONFIG.replace("SHARDS", shards);
    fs::write(workspace.path("config.toml"), config).unwrap();
    workspace.couplet(&["train", "config.toml", "--run-dir", run])
}

fn losses_from_disk(workspace: &Workspace) -> Vec<(u64, f64)> {
    succeed(train(workspace, "disk", "shards/{000000..000005}.tar"));
    let losses = workspace.losses("disk");
    assert_eq!(losses.len(), 20);
    losses
}

#[test]
fn an_unreliable_server_gives_the_same_run_as_a_disk_even_after_a_kill() {
    let workspace = sharded();
    let from_disk = losses_from_disk(&workspace);
    let (port, failures) = server(workspace.path("shards"), Manner::Flaky);
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    workspace.kill_after(train(&workspace, "http", &shards), "http", 5);
    succeed(train(&workspace, "http", &shards).arg("--resume"));
    assert_eq!(workspace.losses("http"), from_disk);
    assert!(failures.load(Ordering::Relaxed) > 5);
    let skipped = workspace.read("http/skipped.jsonl");
    assert_eq!(skipped, "");
}

#[test]
fn interrupted_responses_are_continued() {
    let workspace = sharded();
    let (port, failures) = server(workspace.path("shards"), Manner::Chops(700_000));
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    succeed(train(&workspace, "chops", &shards));
    assert_eq!(workspace.losses("chops"), losses_from_disk(&workspace));
    assert!(failures.load(Ordering::Relaxed) > 20);
}

#[test]
fn a_server_that_falls_silent_costs_the_rest_of_the_shard_and_no_more_than_its_timeout() {
    let workspace = sharded();
    let len = fs::metadata(workspace.path("shards/000002.tar"))
        .unwrap()
        .len();
    let half = usize::try_from(len / 2).unwrap();
    let (port, _) = server(workspace.path("shards"), Manner::Silent("2.tar", half));
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    let mut command = train(&workspace, "silent", &shards);
    command.args(["--set", "data.train.server_timeout=3"]);
    command.args(["--set", "data.train.samples_per_epoch=300"]);
    // About 25 of 300 samples are lost in each pass.
    let start = Instant::now();
    succeed(command.args(["--set", "data.max_skipped=0.3"]));
    assert!(
        start.elapsed() < Duration::from_mins(1),
        "{:?}",
        start.elapsed()
    );
    let lines = workspace.json_lines("silent/skipped.jsonl");
    let rest = lines.iter().find(|line| line["cause"] == "unreadable");
    let rest = rest.expect("a line of the shard");
    assert!(
        (15..36).contains(&rest["samples"].as_u64().unwrap()),
        "{rest}"
    );
    let detail = rest["detail"].as_str().unwrap();
    assert!(detail.contains("without a byte within 3 s"), "{detail}");
    // Losing the rest of a shard exceeds the limit here.
    let mut command = train(&workspace, "strict", &shards);
    command.args(["--set", "data.train.server_timeout=3"]);
    command.args(["--set", "data.train.samples_per_epoch=300"]);
    let printed = fail(command.args(["--set", "data.max_skipped=0.05"]), 1);
    assert!(printed.contains("data.max_skipped"), "{printed}");
}

#[test]
fn missing_shards_are_named() {
    let workspace = sharded();
    let (port, _) = server(workspace.path("shards"), Manner::Flaky);
    let nowhere = format!("http://127.0.0.1:{port}/nowhere.tar");
    let printed = fail(train(&workspace, "none", &nowhere), 2);
    assert!(printed.contains("nowhere.tar"), "{printed}");
    // One of several shards cannot be read: it is listed, and training uses the others.
    let shards = format!("http://127.0.0.1:{port}/{{000004..000006}}.tar");
    let mut command = train(&workspace, "some", &shards);
    succeed(command.args(["--set", "data.max_skipped=0.4"]));
    let skipped = workspace.read("some/skipped.jsonl");
    assert!(
        skipped.contains("000006.tar") && skipped.contains("unreadable"),
        "{skipped}"
    );
    let glob = format!("http://127.0.0.1:{port}/*.tar");
    let printed = text(&train(&workspace, "glob", &glob).output().unwrap());
    assert!(printed.contains("cannot be listed"), "{printed}");
}

/// Python's own web server does not support ranges.
#[test]
fn a_server_without_ranges_can_be_used() {
    let Some(python) = python_with("http.server") else {
        return;
    };
    let workspace = sharded();
    let port = free_port();
    let mut command = Command::new(python);
    command.args([
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        &port.to_string(),
    ]);
    command.arg("--directory").arg(workspace.path("shards"));
    let _server = start(command, port);
    let shards = format!("http://127.0.0.1:{port}/{{000000..000005}}.tar");
    succeed(train(&workspace, "plain", &shards));
    assert_eq!(workspace.losses("plain"), losses_from_disk(&workspace));
}

/// moto emulates Amazon's store.
#[test]
fn a_bucket_is_listed_and_read() {
    let Some(python) = python_with("moto.server, boto3") else {
        return;
    };
    let workspace = sharded();
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
    command.args(["-c", upload]).arg(workspace.path("shards"));
    succeed(command.envs(keys));
    succeed(train(&workspace, "s3", "s3://pairs/train/*.tar").envs(keys));
    assert_eq!(workspace.losses("s3"), losses_from_disk(&workspace));
    let mut command = train(&workspace, "none", "s3://pairs/test/*.tar");
    let printed = text(&command.envs(keys).output().unwrap());
    assert!(printed.contains("no object matches"), "{printed}");
}
