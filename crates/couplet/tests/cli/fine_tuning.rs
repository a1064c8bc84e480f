//! Fine-tuning with a classification head, from the outside.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::workspace::{Workspace, fail, succeed, text};

const CONFIG: &str = r#"
name = "fine"
device = "flex"
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

fn place() -> Workspace {
    Workspace::with(&[("fine.toml", CONFIG), ("set.toml", DATASET)])
}

fn train(place: &Workspace, run: &str) -> Command {
    place.couplet(&["train", "fine.toml", "--run-dir", run])
}

#[test]
fn a_head_is_trained_judged_resumed_and_used() {
    let place = place();
    succeed(train(&place, "whole"));
    let losses = place.losses("whole");
    assert_eq!(losses.len(), 18);
    assert!(losses[17].1 < losses[0].1, "{losses:?}");

    // Killed somewhere in the middle, the run ends the same.
    place.kill_after(train(&place, "killed"), "killed", 6);
    succeed(train(&place, "killed").arg("--resume"));
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
    succeed(place.couplet(&[
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
    ]));
    let report = place.json("out.json");
    assert_eq!(report[0]["protocol"], "classification");
    assert_eq!(report[0]["top1"].as_f64(), Some(best));

    // The head names its classes, and the model is an open_clip folder still.
    succeed(place.couplet(&[
        "data",
        "shapes",
        "pictures",
        "--format",
        "folder",
        "--samples",
        "2",
    ]));
    let picture = fs::read_dir(place.path("pictures"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let picture = picture
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "png"));
    let picture = picture.unwrap().display().to_string();
    let told =
        succeed(place.couplet(&["classify", "--model", "whole", "--device", "flex", &picture]));
    assert!(told.matches(" %  ").count() == 5, "{told}");
    for format in ["open_clip", "hf"] {
        succeed(place.couplet(&["model", "convert", "whole", format, "--format", format]));
        let again =
            succeed(place.couplet(&["classify", "--model", format, "--device", "flex", &picture]));
        assert_eq!(again, told, "{format}");
    }
    succeed(place.couplet(&[
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
    let place = place();
    let no_learning = [
        "--set",
        "optimizer.lr=1e-12",
        "--set",
        "schedule.length=1 step",
    ];
    let mut command = train(&place, "first");
    succeed(command.args(no_learning).args(["--set", "ema="]));
    succeed(place.couplet(&[
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
    ]));
    let zero = place.json("zero.json");
    let metrics = place.metrics("first");
    let own = metrics
        .iter()
        .find_map(|line| line["eval/set/top1"].as_f64());
    assert_eq!(own, zero[0]["top1"].as_f64());
}

#[test]
fn a_run_is_planned_and_measured_before_it_runs() {
    let place = place();
    let set = ["--set", "batch.global=1", "--set", "optimizer.kind=lion"];
    let mut command = place.couplet(&["plan", "fine.toml", "--measure", "--json"]);
    let told = succeed(command.args(set));
    let plan: Value = serde_json::from_str(&told).unwrap();
    assert!(plan["samples_per_second"].as_f64().unwrap() > 0.0, "{told}");
    // An image tower, and a head of eight classes.
    let image = plan["parameters"]["image"].as_u64().unwrap();
    let head = plan["parameters"]["trained"].as_u64().unwrap() - image;
    assert!(head > 8 && head.is_multiple_of(8), "{told}");
}

#[test]
fn what_does_not_fit_is_named() {
    let place = place();
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
        let said = fail(train(&place, "none").args(["--set", set]), 2);
        assert!(said.contains(message), "{set}: {said}");
    }
    succeed(train(&place, "fine").args([
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
    let said_of = |dataset: &str, out: &str| {
        let mut command = place.couplet(&["eval", "classification", "--model", "fine"]);
        command.args(["--dataset", dataset, "--json", out]);
        text(&command.output().unwrap())
    };
    let said = said_of("pairs.toml", "out.json");
    assert!(said.contains("its classes are"), "{said}");
    let said = said_of("set.toml", "nowhere/out.json");
    assert!(said.contains("there is no folder"), "{said}");
}
