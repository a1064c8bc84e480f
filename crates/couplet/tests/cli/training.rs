//! Training runs: the files they write and the configs they reject.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::workspace::{Workspace, fail, python_with, succeed, text};

/// 10 steps per epoch, 30 in total.
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

/// A folder with a run's config and the dataset that it is evaluated on.
pub fn tiny() -> Workspace {
    Workspace::with(&[("tiny.toml", CONFIG), ("tiny-set.toml", DATASET)])
}

/// - more: arguments in addition to the config and the run's folder.
pub fn train(workspace: &Workspace, run: &str, more: &[&str]) -> Command {
    let mut command = workspace.couplet(&["train", "tiny.toml", "--run-dir", run]);
    command.args(more);
    command
}

/// A model's top-1 accuracy on the workspace's dataset, evaluated again.
fn top1(workspace: &Workspace, model: &Path) -> f64 {
    let mut command = workspace.couplet(&["eval", "zero-shot", "--no-cache"]);
    command.args(["--dataset", "tiny-set.toml", "--json", "report.json"]);
    succeed(command.arg("--model").arg(model));
    workspace.json("report.json")[0]["top1"].as_f64().unwrap()
}

#[test]
fn a_checkpoint_opens_with_the_weights_that_were_evaluated() {
    let workspace = tiny();
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
        succeed(train(&workspace, weights, &set));
        let best = workspace.read(&format!("{weights}/best"));
        let step: u64 = best.trim().strip_prefix("step-").unwrap().parse().unwrap();
        let metrics = workspace.metrics(weights);
        let logged = metrics
            .iter()
            .filter(|line| line["step"] == step)
            .find_map(|line| line["eval/tiny/top1"].as_f64())
            .unwrap();
        assert_eq!(
            top1(&workspace, &workspace.path(weights)),
            logged,
            "{weights}"
        );
        let checkpoints = workspace.path(weights).join("checkpoints");
        let file = |name: &str| checkpoints.join(best.trim()).join(name);
        let evaluated = match weights {
            "ema" => "open_clip_model_ema.safetensors",
            _ => "open_clip_model.safetensors",
        };
        assert_eq!(top1(&workspace, &file(evaluated)), logged);
        // The two differ, so that one cannot pass for the other.
        assert_ne!(
            fs::read(file("open_clip_model_ema.safetensors")).unwrap(),
            fs::read(file("open_clip_model.safetensors")).unwrap()
        );
    }
}

/// Reads the event files with TensorBoard's own package, if it is installed.
#[test]
fn tensorboard_reads_the_logged_metrics() {
    let Some(python) = python_with("tensorboard") else {
        return;
    };
    let workspace = tiny();
    // Killed and resumed: there are two files, whose steps overlap.
    workspace.kill_after(train(&workspace, "run", &[]), "run", 8);
    succeed(train(&workspace, "run", &["--resume"]));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/read_events.py");
    let mut read = Command::new(python);
    let read = read.arg(script).arg(workspace.path("run/tensorboard"));
    let read = read.output().unwrap();
    assert!(read.status.success(), "{}", text(&read));
    let scalars: Value = serde_json::from_slice(&read.stdout).unwrap();
    // The log has the shortest number that is the same f32, TensorBoard all digits of that.
    let same = |step: u64, loss: f64| (step, loss.to_string().parse::<f32>().unwrap());
    let losses = workspace.losses("run").into_iter();
    let losses: Vec<_> = losses.map(|(step, loss)| same(step, loss)).collect();
    assert_eq!(losses.len(), 30);
    let scalar = |pair: &Value| same(pair[0].as_u64().unwrap(), pair[1].as_f64().unwrap());
    let read: Vec<_> = (scalars["train/loss"].as_array().unwrap().iter())
        .map(scalar)
        .collect();
    assert_eq!(read, losses);
    assert_eq!(scalars["eval/tiny/top1"].as_array().unwrap().len(), 3);
    // What is confused, as a picture and in words.
    let pictures = scalars["eval/tiny/confusion_matrix"].as_array().unwrap();
    assert_eq!((pictures.len(), &pictures[2][0]), (3, &Value::from(30)));
    assert!(pictures[2][1].as_u64() > Some(100), "{pictures:?}");
    let words = scalars["eval/tiny/confusions"][2][1].as_str().unwrap();
    assert!(
        words.starts_with("- ") && words.contains("were classified as"),
        "{words}"
    );
}

#[test]
fn a_finished_run_is_kept_and_can_be_evaluated() {
    let workspace = tiny();
    succeed(train(
        &workspace,
        "run",
        &["--set", "schedule.length=6 steps"],
    ));
    let logged = workspace.metrics("run");
    let last = logged.last().unwrap()["eval/tiny/top1"].as_f64();
    assert_eq!(Some(top1(&workspace, &workspace.path("run"))), last);

    let printed = fail(train(&workspace, "run", &[]), 1);
    assert!(printed.contains("--overwrite"), "{printed}");
    assert_eq!(workspace.metrics("run"), logged);

    let changed = ["--resume", "--set", "optimizer.lr=0.1"];
    let printed = fail(train(&workspace, "run", &changed), 1);
    assert!(
        printed.contains("optimizer.lr: 0.001 became 0.1"),
        "{printed}"
    );
}

#[test]
fn a_bad_config_ends_with_all_its_problems_and_code_2() {
    let workspace = tiny();
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
    let shown = fail(train(&workspace, "run", &mistakes), 2);
    for key in [
        "8 mistakes",
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
    assert!(!workspace.path("run").exists(), "no work starts");
}

/// A CSV table of 100 files, `bad` of which are not images.
fn table(workspace: &Workspace, bad: usize) -> PathBuf {
    let path = workspace.path("pairs.csv");
    let mut rows = String::from("filepath,title\n");
    for at in 0..100u8 {
        let file = format!("{at}.png");
        if usize::from(at) < bad {
            fs::write(workspace.path(&file), b"no image").unwrap();
        } else {
            let image = image::RgbImage::from_pixel(20, 20, [at, 2 * at, 9].into());
            image.save(workspace.path(&file)).unwrap();
        }
        rows.push_str(&format!("{file},picture number {at}\n"));
    }
    fs::write(&path, rows).unwrap();
    path
}

#[test]
fn bad_images_are_listed_and_too_many_stop_the_run() {
    let workspace = tiny();
    let on_table = |bad: usize, run: &str| {
        let path = format!("data.train.path={}", table(&workspace, bad).display());
        train(
            &workspace,
            run,
            &["--set", "data.train.source=csv", "--set", &path],
        )
    };
    let printed = succeed(on_table(1, "few"));
    let skipped = "skipped 1 sample (first: ";
    let line = printed.lines().find(|line| line.contains(skipped)).unwrap();
    assert!(line.starts_with("epoch 1/") && line.contains("pairs.csv: line 2: corrupt image"));
    assert!(line.ends_with("see few/skipped.jsonl"), "{line}");
    let skipped = workspace.json_lines("few/skipped.jsonl");
    assert_eq!(skipped[0]["key"], "line 2");
    assert_eq!(skipped[0]["cause"], "corrupt-image");

    let printed = fail(on_table(5, "many"), 1);
    assert!(
        printed.contains("5 corrupt image") || printed.contains("2 corrupt image"),
        "{printed}"
    );
    assert!(!workspace.read("many/skipped.jsonl").is_empty());
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let workspace = tiny();
    let set = [
        "--set",
        "optimizer.lr=1e30",
        "--set",
        "optimizer.weight_decay=0.0",
    ];
    let printed = fail(train(&workspace, "run", &set), 1);
    assert!(printed.contains("lower `optimizer.lr`"), "{printed}");
}
