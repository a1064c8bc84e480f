//! Fine-tuning with a classification head.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::workspace::{Workspace, fail, succeed, text};

const CONFIG: &str = r#"
name = "fine"
device = "cpu"
[model]
preset = "ViT-Ti-8-32"
[classify]
dataset = "set.toml"
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

fn workspace() -> Workspace {
    Workspace::with(&[("fine.toml", CONFIG), ("set.toml", DATASET)])
}

fn train(workspace: &Workspace, run: &str) -> Command {
    workspace.couplet(&["train", "fine.toml", "--run-dir", run])
}

#[test]
fn a_head_is_trained_evaluated_resumed_and_used() {
    let workspace = workspace();
    succeed(train(&workspace, "whole"));
    let losses = workspace.losses("whole");
    assert_eq!(losses.len(), 18);
    assert!(losses[17].1 < losses[0].1, "{losses:?}");

    // A run that is killed and resumed ends the same.
    workspace.kill_after(train(&workspace, "killed"), "killed", 6);
    succeed(train(&workspace, "killed").arg("--resume"));
    assert_eq!(workspace.losses("killed"), losses);
    let weights = |run: &str, file: &str| {
        fs::read(
            workspace
                .path(run)
                .join("checkpoints/step-00000018")
                .join(file),
        )
        .unwrap()
    };
    for file in [
        "head.safetensors",
        "head_ema.safetensors",
        "open_clip_model.safetensors",
    ] {
        assert!(weights("whole", file) == weights("killed", file), "{file}");
    }
    assert!(weights("whole", "head.safetensors") != weights("whole", "head_ema.safetensors"));

    // Evaluated again, the model has the accuracy that training logged.
    let metrics = workspace.metrics("whole");
    let top1 = |line: &&Value| line["eval/set/top1"].as_f64();
    let best = metrics
        .iter()
        .filter_map(|line| top1(&line))
        .fold(0.0, f64::max);
    succeed(workspace.couplet(&[
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
        "cpu",
    ]));
    let report = workspace.json("out.json");
    assert_eq!(report[0]["protocol"], "classification");
    assert_eq!(report[0]["top1"].as_f64(), Some(best));

    // The head brings its class names, and the model is still an open_clip folder.
    succeed(workspace.couplet(&[
        "data",
        "shapes",
        "pictures",
        "--format",
        "folder",
        "--samples",
        "2",
    ]));
    let picture = fs::read_dir(workspace.path("pictures"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let picture = picture
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "png"));
    let picture = picture.unwrap().display().to_string();
    let printed =
        succeed(workspace.couplet(&["classify", "--model", "whole", "--device", "cpu", &picture]));
    assert!(printed.matches(" %  ").count() == 5, "{printed}");
    let (printed, opened) = printed.split_once("model whole/checkpoints/").unwrap();
    assert!(opened.contains("(best by eval/set/top1, "), "{opened}");
    for format in ["open_clip", "hf"] {
        succeed(workspace.couplet(&["model", "convert", "whole", format, "--format", format]));
        let again = succeed(
            workspace.couplet(&["classify", "--model", format, "--device", "cpu", &picture]),
        );
        assert_eq!(again, printed, "{format}");
    }
    succeed(workspace.couplet(&[
        "eval",
        "zero-shot",
        "--model",
        "whole",
        "--dataset",
        "set.toml",
        "--no-cache",
    ]));
}

#[test]
fn a_zero_shot_head_starts_as_good_as_the_zero_shot_classifier() {
    let workspace = workspace();
    let no_learning = [
        "--set",
        "optimizer.lr=1e-12",
        "--set",
        "schedule.length=1 step",
    ];
    let mut command = train(&workspace, "first");
    succeed(command.args(no_learning).args(["--set", "ema="]));
    succeed(workspace.couplet(&[
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
        "cpu",
    ]));
    let zero = workspace.json("zero.json");
    let metrics = workspace.metrics("first");
    let own = metrics
        .iter()
        .find_map(|line| line["eval/set/top1"].as_f64());
    assert_eq!(own, zero[0]["top1"].as_f64());
}

#[test]
fn a_run_is_planned_and_measured_before_it_runs() {
    let workspace = workspace();
    let set = ["--set", "batch.global=1", "--set", "optimizer.kind=lion"];
    let mut command = workspace.couplet(&["plan", "fine.toml", "--measure", "--json"]);
    let printed = succeed(command.args(set));
    let plan: Value = serde_json::from_str(&printed).unwrap();
    assert!(
        plan["samples_per_second"].as_f64().unwrap() > 0.0,
        "{printed}"
    );
    // An image tower, and a head of eight classes.
    let image = plan["parameters"]["image"].as_u64().unwrap();
    let head = plan["parameters"]["trained"].as_u64().unwrap() - image;
    assert!(head > 8 && head.is_multiple_of(8), "{printed}");
}

#[test]
fn unsuitable_configs_and_models_are_rejected() {
    let workspace = workspace();
    fs::create_dir_all(workspace.path("one/red")).unwrap();
    fs::write(workspace.path("one/red/a.png"), b"").unwrap();
    for (set, message) in [
        ("classify.dataset=nowhere.toml", "classify.dataset"),
        ("classify.dataset=one", "only one class"),
        ("data.train.source=shapes", "remove the source"),
        ("loss.kind=sigmoid", "needs the softmax loss"),
        (
            "optimizer.no_decay=[\"tail.*\"]",
            "no parameter has a name like",
        ),
    ] {
        let printed = fail(train(&workspace, "none").args(["--set", set]), 2);
        assert!(printed.contains(message), "{set}: {printed}");
    }
    succeed(train(&workspace, "fine").args([
        "--set",
        "schedule.length=1 step",
        "--set",
        "optimizer.no_decay=[\"head.*\"]",
    ]));
    fs::write(
        workspace.path("pairs.toml"),
        DATASET.replace("\"shapes\"\nsamples", "\"pairs\"\nsamples"),
    )
    .unwrap();
    let printed_of = |dataset: &str, out: &str| {
        let mut command = workspace.couplet(&["eval", "classification", "--model", "fine"]);
        command.args(["--dataset", dataset, "--json", out]);
        text(&command.output().unwrap())
    };
    let printed = printed_of("pairs.toml", "out.json");
    assert!(printed.contains("its classes are"), "{printed}");
    let printed = printed_of("set.toml", "nowhere/out.json");
    assert!(printed.contains("there is no folder"), "{printed}");
}
