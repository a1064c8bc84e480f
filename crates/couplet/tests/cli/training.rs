//! Runs from the outside: what they write, and what they refuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::workspace::{Workspace, fail, python_with, succeed, text};

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
dataset = "tiny-set.toml"

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

/// A folder with a run's config and the dataset that it is judged on.
pub fn tiny() -> Workspace {
    Workspace::with(&[("tiny.toml", CONFIG), ("tiny-set.toml", DATASET)])
}

/// - more: arguments beside the config and the run's folder.
pub fn train(place: &Workspace, run: &str, more: &[&str]) -> Command {
    let mut command = place.couplet(&["train", "tiny.toml", "--run-dir", run]);
    command.args(more);
    command
}

/// What a model of the place, judged again, has on its dataset.
fn top1(place: &Workspace, model: &Path) -> f64 {
    let mut command = place.couplet(&["eval", "zero-shot", "--no-cache"]);
    command.args(["--dataset", "tiny-set.toml", "--json", "report.json"]);
    succeed(command.arg("--model").arg(model));
    place.json("report.json")[0]["top1"].as_f64().unwrap()
}

#[test]
fn the_weights_that_were_judged_are_those_that_open() {
    let place = tiny();
    for weights in ["ema", "raw"] {
        let eval = format!(
            "eval=[{{ kind = 'zero-shot', dataset = 'tiny-set.toml', weights = '{weights}' }}]"
        );
        let set = [
            "--set",
            "ema.decay=0.99",
            "--set",
            "optimizer.lr=2e-2",
            "--set",
            &eval,
        ];
        succeed(train(&place, weights, &set));
        let best = place.read(&format!("{weights}/best"));
        let step: u64 = best.trim().strip_prefix("step-").unwrap().parse().unwrap();
        let metrics = place.metrics(weights);
        let logged = metrics
            .iter()
            .filter(|line| line["step"] == step)
            .find_map(|line| line["eval/tiny/top1"].as_f64())
            .unwrap();
        assert_eq!(top1(&place, &place.path(weights)), logged, "{weights}");
        let checkpoints = place.path(weights).join("checkpoints");
        let file = |name: &str| checkpoints.join(best.trim()).join(name);
        let judged = match weights {
            "ema" => "open_clip_model_ema.safetensors",
            _ => "open_clip_model.safetensors",
        };
        assert_eq!(top1(&place, &file(judged)), logged);
        // The two differ, so that one cannot stand for the other.
        assert_ne!(
            fs::read(file("open_clip_model_ema.safetensors")).unwrap(),
            fs::read(file("open_clip_model.safetensors")).unwrap()
        );
    }
}

/// Read with TensorBoard's own package, where there is one.
#[test]
fn tensorboard_reads_what_metrics_say() {
    let Some(python) = python_with("tensorboard") else {
        return;
    };
    let place = tiny();
    // Killed and resumed: there are two files, whose steps overlap.
    place.kill_after(train(&place, "run", &[]), "run", 8);
    succeed(train(&place, "run", &["--resume"]));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside/read_events.py");
    let mut read = Command::new(python);
    let read = read.arg(script).arg(place.path("run/tensorboard"));
    let read = read.output().unwrap();
    assert!(read.status.success(), "{}", text(&read));
    let scalars: Value = serde_json::from_slice(&read.stdout).unwrap();
    let losses: Vec<Value> = (place.losses("run").into_iter())
        .map(|(step, loss)| serde_json::json!([step, loss]))
        .collect();
    assert_eq!(losses.len(), 30);
    assert_eq!(scalars["train/loss"], Value::Array(losses));
    assert_eq!(scalars["eval/tiny/top1"].as_array().unwrap().len(), 3);
}

#[test]
fn a_finished_run_is_kept_and_can_be_evaluated() {
    let place = tiny();
    succeed(train(&place, "run", &["--set", "schedule.length=6 steps"]));
    let logged = place.metrics("run");
    let last = logged.last().unwrap()["eval/tiny/top1"].as_f64();
    assert_eq!(Some(top1(&place, &place.path("run"))), last);

    let said = fail(train(&place, "run", &[]), 1);
    assert!(said.contains("--overwrite"), "{said}");
    assert_eq!(place.metrics("run"), logged);

    let changed = ["--resume", "--set", "optimizer.lr=0.1"];
    let said = fail(train(&place, "run", &changed), 1);
    assert!(said.contains("optimizer.lr: 0.001 became 0.1"), "{said}");
}

#[test]
fn a_bad_config_ends_with_all_its_problems_and_code_2() {
    let place = tiny();
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
    let shown = fail(train(&place, "run", &mistakes), 2);
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
fn table(place: &Workspace, bad: usize) -> PathBuf {
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
    let place = tiny();
    let on_table = |bad: usize, run: &str| {
        let path = format!("data.train.path={}", table(&place, bad).display());
        train(
            &place,
            run,
            &["--set", "data.train.source=csv", "--set", &path],
        )
    };
    succeed(on_table(1, "few"));
    let skipped = place.json_lines("few/skipped.jsonl");
    assert_eq!(skipped[0]["key"], "line 2");
    assert_eq!(skipped[0]["cause"], "corrupt-image");

    let said = fail(on_table(5, "many"), 1);
    assert!(
        said.contains("5 corrupt image") || said.contains("2 corrupt image"),
        "{said}"
    );
    assert!(!place.read("many/skipped.jsonl").is_empty());
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let place = tiny();
    let set = [
        "--set",
        "optimizer.lr=1e30",
        "--set",
        "optimizer.weight_decay=0.0",
    ];
    let said = fail(train(&place, "run", &set), 1);
    assert!(said.contains("lower optimizer.lr"), "{said}");
}
