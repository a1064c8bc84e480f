//! Fine-tuning with a classification head, from the outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const CONFIG: &str = r#"
name = "fine"
device = "flex"
[model]
preset = "ViT-Ti-8-32"
[classify]
dataset = "FOLDER/set.toml"
[batch]
global = 32
[optimizer]
kind = "adamw"
lr = 2e-3
[schedule]
kind = "cosine"
length = "3 epochs"
[ema]
decay = 0.5
[log]
every = "1 step"
[checkpoint]
every = "2 steps"
best = "eval/set/top1"
"#;

const DATASET: &str = r#"
name = "set"
source = "shapes"
split = "test"
classes = "shapes"
samples = 192
templates = ["a {}"]
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(place.path("set.toml"), DATASET).unwrap();
        let folder = place.folder.path().display().to_string();
        fs::write(place.path("fine.toml"), CONFIG.replace("FOLDER", &folder)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn couplet(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    fn train(&self, run: &str) -> Command {
        self.couplet(&["train", "fine.toml", "--run-dir", run])
    }

    fn run(&self, arguments: &[&str]) -> String {
        succeed(&mut self.couplet(arguments))
    }

    fn metrics(&self, run: &str) -> Vec<Value> {
        let lines = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    fn losses(&self, run: &str) -> Vec<f64> {
        let metrics = self.metrics(run);
        metrics
            .iter()
            .filter_map(|line| line["loss"].as_f64())
            .collect()
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
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
fn a_head_is_trained_judged_resumed_and_used() {
    let place = Place::new();
    succeed(&mut place.train("whole"));
    let losses = place.losses("whole");
    assert_eq!(losses.len(), 18);
    assert!(losses[17] < losses[0], "{losses:?}");

    // Killed somewhere in the middle, the run ends the same.
    let mut child = place.train("killed").stdout(Stdio::null()).spawn().unwrap();
    wait_for_lines(&place.path("killed"), 6);
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(place.train("killed").arg("--resume"));
    assert_eq!(place.losses("killed"), losses);
    let weights = |run: &str, file: &str| {
        fs::read(place.path(run).join("checkpoints/step-00000018").join(file)).unwrap()
    };
    for file in [
        "head.safetensors",
        "head_ema.safetensors",
        "open_clip_model.safetensors",
    ] {
        assert!(weights("whole", file) == weights("killed", file), "{file}");
    }
    assert!(weights("whole", "head.safetensors") != weights("whole", "head_ema.safetensors"));

    // Judged again, the model has the numbers that it had in training.
    let metrics = place.metrics("whole");
    let top1 = |line: &&Value| line["eval/set/top1"].as_f64();
    let best = metrics
        .iter()
        .filter_map(|line| top1(&line))
        .fold(0.0, f64::max);
    place.run(&[
        "eval",
        "classification",
        "--model",
        "whole",
        "--dataset",
        "set.toml",
        "--json",
        "out.json",
        "--no-cache",
        "--device",
        "flex",
    ]);
    let report: Value = serde_json::from_slice(&fs::read(place.path("out.json")).unwrap()).unwrap();
    assert_eq!(report[0]["protocol"], "classification");
    assert_eq!(report[0]["top1"].as_f64(), Some(best));

    // The head names its classes, and the model is an open_clip folder still.
    place.run(&[
        "data",
        "shapes",
        "pictures",
        "--format",
        "folder",
        "--samples",
        "2",
    ]);
    let picture = fs::read_dir(place.path("pictures"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let picture = picture
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "png"));
    let picture = picture.unwrap().display().to_string();
    let told = place.run(&["classify", "--model", "whole", "--device", "flex", &picture]);
    assert!(told.matches(" %  ").count() == 5, "{told}");
    for format in ["open_clip", "hf"] {
        place.run(&["model", "convert", "whole", format, "--format", format]);
        let again = place.run(&["classify", "--model", format, "--device", "flex", &picture]);
        assert_eq!(again, told, "{format}");
    }
    place.run(&[
        "eval",
        "zero-shot",
        "--model",
        "whole",
        "--dataset",
        "set.toml",
        "--no-cache",
    ]);
}

#[test]
fn a_zero_shot_head_starts_as_good_as_the_zero_shot_classifier() {
    let place = Place::new();
    let no_learning = [
        "--set",
        "optimizer.lr=1e-12",
        "--set",
        "schedule.length=1 step",
    ];
    let mut command = place.train("first");
    succeed(command.args(no_learning).args(["--set", "ema="]));
    place.run(&[
        "eval",
        "zero-shot",
        "--model",
        "first",
        "--dataset",
        "set.toml",
        "--json",
        "zero.json",
        "--no-cache",
        "--device",
        "flex",
    ]);
    let zero: Value = serde_json::from_slice(&fs::read(place.path("zero.json")).unwrap()).unwrap();
    let metrics = place.metrics("first");
    let own = metrics
        .iter()
        .find_map(|line| line["eval/set/top1"].as_f64());
    assert_eq!(own, zero[0]["top1"].as_f64());
}

#[test]
fn what_does_not_fit_is_named() {
    let place = Place::new();
    fs::create_dir_all(place.path("one/red")).unwrap();
    fs::write(place.path("one/red/a.png"), b"").unwrap();
    for (set, message) in [
        ("classify.dataset=nowhere.toml", "classify.dataset"),
        ("classify.dataset=one", "one class only"),
        ("data.train.source=shapes", "take the source out"),
        (
            "loss.kind=sigmoid",
            "a classifier learns by the softmax loss",
        ),
        (
            "optimizer.no_decay=[\"tail.*\"]",
            "the name of no parameter",
        ),
    ] {
        let output = place.train("none").args(["--set", set]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{set}: {}", text(&output));
        assert!(text(&output).contains(message), "{set}: {}", text(&output));
    }
    succeed(place.train("fine").args([
        "--set",
        "schedule.length=1 step",
        "--set",
        "optimizer.no_decay=[\"head.*\"]",
    ]));
    fs::write(
        place.path("pairs.toml"),
        DATASET.replace("\"shapes\"\nsamples", "\"pairs\"\nsamples"),
    )
    .unwrap();
    let mut command = place.couplet(&[
        "eval",
        "classification",
        "--model",
        "fine",
        "--dataset",
        "pairs.toml",
    ]);
    let output = command.output().unwrap();
    assert!(
        text(&output).contains("its classes are"),
        "{}",
        text(&output)
    );
    let mut command = place.couplet(&[
        "eval",
        "classification",
        "--model",
        "fine",
        "--dataset",
        "set.toml",
    ]);
    let output = command
        .args(["--json", "nowhere/out.json"])
        .output()
        .unwrap();
    assert!(
        text(&output).contains("there is no folder"),
        "{}",
        text(&output)
    );
}
