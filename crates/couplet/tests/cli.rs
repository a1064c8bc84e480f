//! The binary from outside, on a tiny model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// 10 steps an epoch, 30 in all.
const CONFIG: &str = r#"
name = "tiny"
device = "flex"

[model]
embed_dim = 16

[model.image]
kind = "vit"
image_size = 16
patch_size = 8
width = 16
layers = 1
heads = 2

[model.text]
context_length = 16
vocab_size = 49408
width = 8
layers = 1
heads = 2

[data.train]
source = "shapes"
samples = 80

[batch]
global = 8

[optimizer]
kind = "adamw"
lr = 1e-3
clip_norm = 1.0

[schedule]
kind = "cosine"
length = "3 epochs"
warmup = "4 steps"

[[eval]]
kind = "zero-shot"
dataset = "DATASET"

[checkpoint]
every = ["1 epoch", "3 steps"]
keep = 2
best = "eval/tiny/top1"

[log]
every = "1 step"
"#;

const DATASET: &str = r#"
name = "tiny"
source = "shapes"
split = "test"
classes = "shapes"
samples = 40
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dataset = folder.path().join("dataset.toml");
        fs::write(&dataset, DATASET).unwrap();
        let config = CONFIG.replace("DATASET", &dataset.display().to_string());
        fs::write(folder.path().join("tiny.toml"), config).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn train(&self, run: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        command
            .arg("train")
            .arg(self.path("tiny.toml"))
            .arg("--run-dir")
            .arg(self.path(run))
            .args(more);
        command
    }
}

fn text(output: &Output) -> String {
    let both = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The lines of a run's `metrics.jsonl` without what depends on the clock.
fn metrics(run: &Path) -> Vec<Value> {
    fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let map = line.as_object_mut().unwrap();
            for timing in ["time", "samples_per_second", "data_wait"] {
                map.remove(timing);
            }
            line
        })
        .collect()
}

/// Kills a run at several moments and compares it with one that never stopped.
fn killed_equals_whole(set: &[&str], kill_after_lines: &[usize], files: &[&str]) {
    let place = Place::new();
    let whole = place.train("whole", set).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole));

    let broken = place.path("broken");
    let resume = [set, &["--resume"]].concat();
    for lines in kill_after_lines {
        let mut child = place
            .train("broken", &resume)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_lines(&broken, *lines);
        // SIGKILL: nothing of ours runs after it.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let last = place.train("broken", &resume).output().unwrap();
    assert!(last.status.success(), "{}", text(&last));
    assert_eq!(metrics(&broken), metrics(&place.path("whole")));
    for file in files {
        let bytes = |run: &str| {
            let checkpoint = place.path(run).join("checkpoints/step-00000030");
            fs::read(checkpoint.join(file)).unwrap()
        };
        assert!(bytes("broken") == bytes("whole"), "{file} differs");
    }
    let again = place.train("broken", &resume).output().unwrap();
    assert!(text(&again).contains("nothing to do"), "{}", text(&again));
}

/// Waits until a run has written so many lines, or has ended.
fn wait_for_lines(run: &Path, lines: usize) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let written = || {
        let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
        log.lines().count()
    };
    while written() < lines && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_run_killed_again_and_again_equals_one_that_never_stopped() {
    killed_equals_whole(&[], &[1, 5, 8, 14, 21], &["open_clip_model.safetensors"]);
}

#[test]
fn averages_half_precision_and_micro_batches_survive_being_killed() {
    let set = [
        "--set",
        "precision=f16",
        "--set",
        "ema.decay=0.9",
        "--set",
        "batch.micro=4",
        "--set",
        "model.image.patch_dropout=0.25",
        // Large gradients, so that the loss scale moves.
        "--set",
        "model.init_logit_scale=4.6",
    ];
    let files = [
        "open_clip_model.safetensors",
        "open_clip_model_ema.safetensors",
        "trainer/optimizer.safetensors",
    ];
    killed_equals_whole(&set, &[2, 6, 15, 24], &files);
}

#[test]
fn a_run_stopped_before_its_first_update_can_go_on() {
    let place = Place::new();
    // No loss scale helps: every step is skipped, until the stop or the end of patience.
    let set = [
        "--set",
        "precision=f16",
        "--set",
        "model.init_logit_scale=4.6",
    ];
    let child = place
        .train("run", &set)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_lines(&place.path("run"), 1);
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let lines = metrics(&place.path("run"));
    assert_eq!(lines[0]["skipped_step"], true, "{lines:?}");
    let resume = [&set[..], &["--resume"]].concat();
    let last = place.train("run", &resume).output().unwrap();
    assert!(last.status.success(), "{}", text(&last));
    let whole = place.train("whole", &set).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole));
    assert_eq!(metrics(&place.path("run")), metrics(&place.path("whole")));
}

#[test]
fn the_weights_that_were_judged_are_those_that_open() {
    let place = Place::new();
    let dataset = place.path("dataset.toml");
    let top1 = |model: PathBuf| -> f64 {
        let json = place.path("result.json");
        let output = Command::new(env!("CARGO_BIN_EXE_couplet"))
            .args(["eval", "zero-shot", "--no-cache", "--dataset"])
            .arg(&dataset)
            .arg("--model")
            .arg(model)
            .arg("--json")
            .arg(&json)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let reports: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        reports[0]["top1"].as_f64().unwrap()
    };
    for weights in ["ema", "raw"] {
        let eval = format!(
            "eval=[{{ kind = 'zero-shot', dataset = '{}', weights = '{weights}' }}]",
            dataset.display()
        );
        let set = [
            "--set",
            "ema.decay=0.99",
            "--set",
            "optimizer.lr=2e-2",
            "--set",
            &eval,
        ];
        let output = place.train(weights, &set).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let run = place.path(weights);
        let best = fs::read_to_string(run.join("best")).unwrap();
        let step: u64 = best.trim().strip_prefix("step-").unwrap().parse().unwrap();
        let logged = metrics(&run)
            .iter()
            .find(|line| line["step"] == step && line.get("eval/tiny/top1").is_some())
            .unwrap()["eval/tiny/top1"]
            .as_f64()
            .unwrap();
        assert_eq!(top1(run.clone()), logged, "{weights}");
        let file = |name: &str| run.join("checkpoints").join(best.trim()).join(name);
        let judged = match weights {
            "ema" => "open_clip_model_ema.safetensors",
            _ => "open_clip_model.safetensors",
        };
        assert_eq!(top1(file(judged)), logged);
        // The two differ, so that one cannot stand for the other.
        assert_ne!(
            fs::read(file("open_clip_model_ema.safetensors")).unwrap(),
            fs::read(file("open_clip_model.safetensors")).unwrap()
        );
    }
}

/// A file system that is full, as far as the run can tell: the system lets it write no
/// file of more than 512 KiB.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_good_one() {
    let place = Place::new();
    let whole = place.train("whole", &[]).output().unwrap();
    assert!(whole.status.success(), "{}", text(&whole));

    let run = place.path("run");
    let mut child = place
        .train("run", &[])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_lines(&run, 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let good = fs::read_to_string(run.join("latest")).unwrap();

    let resume = place.train("run", &["--resume"]);
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""])
        .arg(resume.get_program())
        .args(resume.get_args());
    let output = full.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("could not be saved"), "{said}");
    assert!(said.contains("last good checkpoint is"), "{said}");
    assert_eq!(fs::read_to_string(run.join("latest")).unwrap(), good);
    let left: Vec<_> = fs::read_dir(run.join("checkpoints")).unwrap().collect();
    let unfinished = |entry: &std::io::Result<fs::DirEntry>| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with('.')
    };
    assert!(!left.iter().any(unfinished), "{left:?}");

    let last = place.train("run", &["--resume"]).output().unwrap();
    assert!(last.status.success(), "{}", text(&last));
    assert_eq!(metrics(&run), metrics(&place.path("whole")));
}

#[test]
fn a_resumed_run_says_what_changed_and_refuses_what_would_falsify_it() {
    let place = Place::new();
    let start = ["--set", "schedule.length=5 steps"];
    let output = place.train("run", &start).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let resume = |set: &str| {
        let more = [&start[..], &["--resume", "--set", set]].concat();
        place.train("run", &more).output().unwrap()
    };
    let harmless = resume("batch.micro=4");
    assert!(harmless.status.success(), "{}", text(&harmless));
    let said = text(&harmless);
    assert!(said.contains("batch.micro: unset became 4"), "{said}");
    let wrong = resume("optimizer.lr=1.0");
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong);
    assert!(said.contains("optimizer.lr: 0.001 became 1.0"), "{said}");
}

/// Reads a run's event files with the tensorboard package, where there is one: in
/// `COUPLET_PYTHON`, which `.ci/run` sets, or in `python3`.
#[test]
fn tensorboard_reads_what_metrics_say() {
    let named = std::env::var("COUPLET_PYTHON");
    let python = named.clone().unwrap_or_else(|_| "python3".into());
    let place = Place::new();
    // Killed and resumed: there are two files, whose steps overlap.
    let mut child = place
        .train("run", &[])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_lines(&place.path("run"), 8);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = place.train("run", &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_events.py");
    let folder = place.path("run/tensorboard");
    let read = Command::new(&python).arg(script).arg(folder).output();
    let read = match read {
        Ok(read) if read.status.success() => read,
        Ok(read) if named.is_ok() => panic!("{}", text(&read)),
        _ => {
            eprintln!("not compared: {python} has no tensorboard package");
            return;
        }
    };
    let scalars: Value = serde_json::from_slice(&read.stdout).unwrap();
    let lines = metrics(&place.path("run"));
    let losses: Vec<Value> = (lines.iter())
        .filter(|line| line.get("loss").is_some())
        .map(|line| serde_json::json!([line["step"], line["loss"]]))
        .collect();
    assert_eq!(losses.len(), 30);
    assert_eq!(scalars["train/loss"], Value::Array(losses));
    assert_eq!(scalars["eval/tiny/top1"].as_array().unwrap().len(), 3);
}

#[test]
fn a_finished_run_is_kept_and_can_be_evaluated() {
    let place = Place::new();
    let run = place
        .train("run", &["--set", "schedule.length=6 steps"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", text(&run));
    let logged = metrics(&place.path("run"));
    let top1 = &logged.last().unwrap()["eval/tiny/top1"];

    let json = place.path("report.json");
    let eval = Command::new(env!("CARGO_BIN_EXE_couplet"))
        .args(["eval", "zero-shot", "--no-cache", "--model"])
        .arg(place.path("run"))
        .arg("--dataset")
        .arg(place.path("dataset.toml"))
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    assert!(eval.status.success(), "{}", text(&eval));
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(&report[0]["top1"], top1);

    let before = metrics(&place.path("run"));
    let second = place.train("run", &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("--overwrite"), "{}", text(&second));
    assert_eq!(metrics(&place.path("run")), before);

    let changed = place.train("run", &["--resume", "--set", "optimizer.lr=0.1"]);
    let changed = { changed }.output().unwrap();
    assert_eq!(changed.status.code(), Some(1));
    assert!(
        text(&changed).contains("optimizer.lr: 0.001 became 0.1"),
        "{}",
        text(&changed)
    );
}

#[test]
fn a_bad_config_ends_with_all_its_problems_and_code_2() {
    let place = Place::new();
    let set = |pair: &'static str| ["--set", pair];
    let mistakes: Vec<&str> = [
        set("model.image.heads=3"),
        set("batch.global=99"),
        set("optimizer.lr=quick"),
        set("schedule.kind=linear"),
        set("checkpoint.keep=0"),
        set("checkpoint.bst=x"),
        set("loss.kind=hinge"),
        set("eval.0.dataset=nowhere.toml"),
    ]
    .concat();
    let output = place.train("run", &mistakes).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output);
    for key in [
        "8 problems",
        "model.image.heads: ",
        "batch.global: ",
        "optimizer.lr: ",
        "schedule.kind: ",
        "checkpoint.keep: ",
        "checkpoint.bst: ",
        "loss.kind: ",
        "eval[0].dataset: ",
    ] {
        assert!(shown.contains(key), "{key} is not in\n{shown}");
    }
    assert!(!place.path("run").exists(), "no work starts");
}

/// A table of 100 pictures, `bad` of them no images.
fn table(place: &Place, bad: usize) -> PathBuf {
    let path = place.path("pairs.csv");
    let mut rows = String::from("filepath,title\n");
    for at in 0..100u8 {
        let file = format!("{at}.png");
        if usize::from(at) < bad {
            fs::write(place.path(&file), b"no image").unwrap();
        } else {
            let image = image::RgbImage::from_pixel(20, 20, [at, 2 * at, 9].into());
            image.save(place.path(&file)).unwrap();
        }
        rows.push_str(&format!("{file},picture number {at}\n"));
    }
    fs::write(&path, rows).unwrap();
    path
}

#[test]
fn bad_images_are_listed_and_too_many_stop_the_run() {
    let place = Place::new();
    let csv = |bad| format!("data.train.path={}", table(&place, bad).display());
    let set = |path: &str, run: &str| {
        place
            .train(run, &["--set", "data.train.source=csv", "--set", path])
            .output()
            .unwrap()
    };
    let few = set(&csv(1), "few");
    assert!(few.status.success(), "{}", text(&few));
    let skipped = fs::read_to_string(place.path("few/skipped.jsonl")).unwrap();
    let first: Value = serde_json::from_str(skipped.lines().next().unwrap()).unwrap();
    assert_eq!(first["key"], "line 2");
    assert_eq!(first["cause"], "corrupt-image");

    let many = set(&csv(5), "many");
    assert_eq!(many.status.code(), Some(1));
    assert!(
        text(&many).contains("5 corrupt image") || text(&many).contains("2 corrupt image"),
        "{}",
        text(&many)
    );
    assert!(
        !fs::read_to_string(place.path("many/skipped.jsonl"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let place = Place::new();
    let output = place
        .train(
            "run",
            &[
                "--set",
                "optimizer.lr=1e30",
                "--set",
                "optimizer.weight_decay=0.0",
            ],
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("lower optimizer.lr"),
        "{}",
        text(&output)
    );
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_step_writes_a_checkpoint_and_says_how_to_go_on() {
    let place = Place::new();
    let child = place
        .train("run", &["--set", "schedule.length=100000 steps"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_lines(&place.path("run"), 5);
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output).contains("--resume"), "{}", text(&output));
    let latest = fs::read_to_string(place.path("run/latest")).unwrap();
    let last_step = metrics(&place.path("run")).last().unwrap()["step"]
        .as_u64()
        .unwrap();
    assert_eq!(latest.trim(), format!("step-{last_step:08}"));
}
