//! Runs that are resumed with another config, other data or from another place.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::checkpoints::copy;
use crate::training::{tiny, train};
use crate::workspace::{Workspace, fail, succeed};

/// The lines of training steps, without what evaluations and changes add.
pub fn steps(workspace: &Workspace, run: &str) -> Vec<Value> {
    let lines = workspace.metrics(run).into_iter();
    lines.filter(|line| line["loss"].is_number()).collect()
}

fn changes(workspace: &Workspace, run: &str) -> Vec<(u64, String)> {
    let lines = workspace.metrics(run);
    let noted = lines.iter().filter(|line| line["changes"].is_array());
    let noted = noted.map(|line| {
        let texts = line["changes"].as_array().unwrap().iter();
        let texts: Vec<&str> = texts.map(|text| text.as_str().unwrap()).collect();
        (line["step"].as_u64().unwrap(), texts.join("\n"))
    });
    noted.collect()
}

#[test]
fn a_finished_run_is_extended_as_if_it_had_been_longer_from_the_beginning() {
    let workspace = tiny();
    let rsqrt = "schedule={ kind = 'rsqrt', warmup = '4 steps', timescale = '5 steps', length = ";
    let constant = "schedule={ kind = 'constant', warmup = '4 steps', length = ";
    for (name, schedule) in [("rsqrt", rsqrt), ("constant", constant)] {
        let set = |length: &str| format!("{schedule}'{length}' }}");
        let run = |run: &str, length: &str, more: &[&str]| {
            let set = set(length);
            train(&workspace, run, &[&["--set", &set][..], more].concat())
        };
        let whole = format!("{name}-whole");
        succeed(run(&whole, "3 epochs", &[]));
        succeed(run(name, "15 steps", &[]));
        let printed = succeed(run(name, "3 epochs", &["--resume"]));
        assert!(
            printed.contains("as if the run had had this length"),
            "{printed}"
        );
        assert_eq!(steps(&workspace, name), steps(&workspace, &whole));
        let noted = changes(&workspace, name);
        assert!(noted.len() == 1 && noted[0].0 == 15, "{noted:?}");
        let printed = fail(run(name, "1 epoch", &["--resume"]), 1);
        assert!(
            printed.contains("30 steps are trained, and this is 10"),
            "{printed}"
        );
        let printed = fail(run(name, "1 epoch", &["--resume", "--allow-changes"]), 1);
        assert!(
            printed.contains("30 steps are trained, and this is 10"),
            "{printed}"
        );
        let printed = succeed(run(name, "3 epochs", &["--resume"]));
        assert!(printed.contains("nothing to do"), "{printed}");
        let printed = succeed(workspace.couplet(&["verify", name, "--replay", "3"]));
        assert!(printed.contains("the same, bit for bit"), "{printed}");
    }
}

#[test]
fn an_extended_cosine_goes_on_as_the_longer_one_and_says_so() {
    let workspace = tiny();
    let length = |length: &str| format!("schedule.length={length}");
    succeed(train(&workspace, "run", &["--set", &length("2 epochs")]));
    let longer = length("3 epochs");
    let resume = ["--set", &longer, "--resume"];
    workspace.kill_after(train(&workspace, "run", &resume), "run", 25);
    let printed = succeed(train(&workspace, "run", &resume));
    assert!(!printed.contains("a cosine over"), "{printed}");
    succeed(train(&workspace, "whole", &["--set", &longer]));
    let rates = |run: &str| -> Vec<f64> {
        let steps = steps(&workspace, run);
        steps
            .iter()
            .map(|line| line["lr"].as_f64().unwrap())
            .collect()
    };
    assert_eq!(rates("run")[20..], rates("whole")[20..]);
    let noted = changes(&workspace, "run");
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert!(noted[0].0 == 20 && noted[0].1.contains("a cosine over 30 steps instead of 20"));
    // What the run was before.
    let before = workspace.read("run/config.step-00000020.toml");
    assert!(before.contains("length = \"2 epochs\""), "{before}");
    assert!(
        workspace
            .read("run/config.toml")
            .contains("length = \"3 epochs\"")
    );
}

#[test]
fn a_run_goes_on_with_changes_that_are_asked_for() {
    let workspace = tiny();
    succeed(train(&workspace, "whole", &[]));
    succeed(train(
        &workspace,
        "run",
        &["--set", "schedule.length=15 steps"],
    ));
    let set = |pairs: &[&str], more: &[&str]| {
        let pairs = pairs.iter().flat_map(|pair| ["--set", *pair]);
        let all: Vec<&str> = pairs.chain(more.iter().copied()).collect();
        train(&workspace, "run", &[&all[..], &["--resume"]].concat())
    };
    let wanted = [
        "optimizer.lr=5e-4",
        "optimizer.weight_decay=0.3",
        "data.train.augment.horizontal_flip=0.5",
        "precision=bf16",
    ];
    let printed = fail(set(&wanted, &[]), 1);
    for text in [
        "optimizer.lr: 0.001 became 0.0005",
        "data.train.augment.horizontal_flip",
        "precision",
        "--allow-changes",
        "--run-dir",
        "model.weights=run",
    ] {
        assert!(printed.contains(text), "{text}: {printed}");
    }
    let never = ["optimizer.lr=5e-4", "model.text.layers=2", "seed=4"];
    let printed = fail(set(&never, &["--allow-changes"]), 1);
    assert!(
        printed.contains("model.text.layers: 1 became 2 (cannot change"),
        "{printed}"
    );
    assert!(
        printed.contains("seed: 0 became 4 (cannot change"),
        "{printed}"
    );
    assert!(!printed.contains("optimizer.lr"), "{printed}");
    // Nothing was changed by the refusals.
    assert!(workspace.read("run/config.toml").contains("lr = 0.001"));

    let printed = succeed(set(&wanted, &["--allow-changes"]));
    assert!(
        printed.contains("changed    optimizer.lr: 0.001 became 0.0005"),
        "{printed}"
    );
    let noted = changes(&workspace, "run");
    assert_eq!(noted.len(), 1, "{noted:?}");
    let (run, whole) = (steps(&workspace, "run"), steps(&workspace, "whole"));
    assert_eq!(run.len(), 30);
    let lr = |line: &Value| line["lr"].as_f64().unwrap();
    assert!((lr(&run[16]) * 2.0 - lr(&whole[16])).abs() < 1e-12);
}

#[test]
fn a_run_goes_on_with_another_batch_at_its_place_in_the_epoch() {
    let workspace = tiny();
    let start = ["--set", "checkpoint.every=5 steps"];
    // 1.5 epochs of 10 steps of 8.
    workspace.kill_after(train(&workspace, "run", &start), "run", 17);
    let latest = workspace.read("run/latest");
    let trained: u64 = latest
        .trim()
        .strip_prefix("step-")
        .unwrap()
        .parse()
        .unwrap();
    let set = [
        "--set",
        "batch.global=16",
        "--set",
        "checkpoint.every=5 steps",
        "--resume",
    ];
    let printed = fail(train(&workspace, "run", &set), 1);
    assert!(printed.contains("batch.global: 8 became 16"), "{printed}");
    let set = [&set[..], &["--allow-changes"]].concat();
    workspace.kill_after(train(&workspace, "run", &set), "run", 19);
    succeed(train(&workspace, "run", &set));
    let lines = steps(&workspace, "run");
    let last = lines.last().unwrap();
    // 240 samples in all; a batch that is half in the epoch's end is not trained on.
    let later = (240 - trained * 8).div_ceil(16);
    let steps = [trained + later, trained + later - 1, trained + later + 1];
    assert!(
        steps.contains(&last["step"].as_u64().unwrap()),
        "{trained} {last}"
    );
    assert_eq!(last["epoch"], 3);
    let seen = last["samples_seen"].as_u64().unwrap();
    assert!((230..=256).contains(&seen), "{last}");
    assert!(last["lr"].as_f64().unwrap() < 5e-5, "{last}");
    // Another batch is no damage.
    let printed = succeed(workspace.couplet(&["verify", "run", "--replay", "2"]));
    assert!(printed.contains("the same, bit for bit"), "{printed}");
}

/// A run on three shards of 32 samples.
pub fn on_shards(
    workspace: &Workspace,
    run: &str,
    shards: &str,
    more: &[&str],
) -> std::process::Command {
    let shards = format!("data.train.shards={shards}/*.tar");
    let set = ["--set", "data.train.source=webdataset", "--set", &shards];
    let length = ["--set", "schedule.length=18 steps"];
    train(workspace, run, &[&set[..], &length, more].concat())
}

pub fn make_shards(workspace: &Workspace, folder: &str) {
    let mut command = workspace.couplet(&["data", "shapes", folder, "--samples", "96"]);
    command.args(["--samples-per-shard", "32", "--image-size", "32"]);
    succeed(&mut command);
}

fn shard_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let shards = paths.filter(|path| path.extension().is_some_and(|own| own == "tar"));
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
    let mut names: Vec<String> = shards.map(name).collect();
    names.sort();
    names
}

#[test]
fn a_resumed_run_notices_that_its_data_changed() {
    let workspace = tiny();
    make_shards(&workspace, "data");
    make_shards(&workspace, "copy");
    succeed(on_shards(&workspace, "whole", "data", &[]));
    for stream in ["false", "true"] {
        let run = format!("run-{stream}");
        let set = format!("data.train.stream={stream}");
        let samples = ["--set", "data.train.samples_per_epoch=96"];
        let resume = |shards: &str, more: &[&str]| {
            let set = [&["--set", &set, "--resume"][..], &samples, more].concat();
            on_shards(&workspace, &run, shards, &set)
        };
        workspace.kill_after(resume("data", &[]), &run, 8);
        let shards = workspace.path("data");
        let names = shard_names(&shards);
        assert_eq!(names.len(), 3, "{names:?}");
        let away = workspace.path("away.tar");
        fs::rename(shards.join(&names[1]), &away).unwrap();
        let printed = fail(resume("data", &[]), 1);
        let wanted = format!("data.train: 1 file is missing: {}", names[1]);
        assert!(printed.contains(&wanted), "{printed}");
        assert!(printed.contains("--allow-changes"), "{printed}");
        fs::rename(&away, shards.join(&names[1])).unwrap();
        fs::copy(shards.join(&names[0]), shards.join("x.tar")).unwrap();
        let printed = fail(resume("data", &[]), 1);
        assert!(printed.contains("1 file is new: x.tar"), "{printed}");
        let other = format!("other-{stream}");
        copy(&workspace.path(&run), &workspace.path(&other));
        let allowed = [
            &["--set", &set, "--resume"][..],
            &samples,
            &["--allow-changes"],
        ]
        .concat();
        let printed = succeed(on_shards(&workspace, &other, "data", &allowed));
        assert!(printed.contains("with the changed data"), "{printed}");
        assert_eq!(steps(&workspace, &other).len(), 18);
        fs::remove_file(shards.join("x.tar")).unwrap();

        // The same data elsewhere.
        let printed = succeed(resume("copy", &[]));
        assert!(printed.contains("the same data"), "{printed}");
        if stream == "false" {
            assert_eq!(steps(&workspace, &run), steps(&workspace, "whole"));
        }
    }
}

#[test]
fn permuted_captions_in_a_table_are_noticed() {
    let workspace = tiny();
    let mut command = workspace.couplet(&["data", "shapes", "data", "--samples", "80"]);
    succeed(command.args(["--format", "csv", "--image-size", "32"]));
    let set = [
        "--set",
        "data.train.source=csv",
        "--set",
        "data.train.path=data/pairs.csv",
    ];
    succeed(train(
        &workspace,
        "run",
        &[&set[..], &["--set", "schedule.length=5 steps"]].concat(),
    ));
    let text = workspace.read("data/pairs.csv");
    let mut lines: Vec<Vec<String>> = text
        .lines()
        .map(|line| line.split(',').map(str::to_string).collect())
        .collect();
    let last = lines.len() - 1;
    let (first, other) = (lines[1][1].clone(), lines[last][1].clone());
    (lines[1][1], lines[last][1]) = (other, first);
    let text: Vec<String> = lines.iter().map(|line| line.join(",") + "\n").collect();
    fs::write(workspace.path("data/pairs.csv"), text.concat()).unwrap();
    let resume = [&set[..], &["--set", "schedule.length=9 steps", "--resume"]].concat();
    let printed = fail(train(&workspace, "run", &resume), 1);
    assert!(
        printed.contains("pairs.csv (the same size, but other content)"),
        "{printed}"
    );
    let resume = [&resume[..], &["--allow-changes"]].concat();
    succeed(train(&workspace, "run", &resume));
    let noted = changes(&workspace, "run");
    assert!(
        noted.len() == 1 && noted[0].1.contains("pairs.csv"),
        "{noted:?}"
    );
}

#[test]
fn what_a_run_began_from_may_be_gone() {
    let workspace = tiny();
    succeed(train(
        &workspace,
        "first",
        &["--set", "schedule.length=4 steps"],
    ));
    let set = ["--set", "model.weights=first"];
    succeed(train(&workspace, "whole", &set));
    workspace.kill_after(train(&workspace, "run", &set), "run", 8);
    fs::remove_dir_all(workspace.path("first")).unwrap();
    succeed(train(
        &workspace,
        "run",
        &[&set[..], &["--resume"]].concat(),
    ));
    assert_eq!(workspace.metrics("run"), workspace.metrics("whole"));
}

#[test]
fn a_runs_folder_is_resumed_from_anywhere() {
    let workspace = tiny();
    make_shards(&workspace, "data");
    succeed(on_shards(&workspace, "whole", "data", &[]));
    workspace.kill_after(on_shards(&workspace, "runs/x", "data", &[]), "runs/x", 8);
    let printed = fail(workspace.couplet(&["train", "runs/x"]), 1);
    assert!(printed.contains("--resume"), "{printed}");
    let elsewhere = workspace.path("runs");
    let mut command = workspace.couplet(&["train", "x", "--resume"]);
    let printed = succeed(command.current_dir(&elsewhere));
    assert!(printed.contains("relative ones start from"), "{printed}");
    assert_eq!(steps(&workspace, "runs/x"), steps(&workspace, "whole"));
    let mut command = workspace.couplet(&[
        "train",
        "x",
        "--resume",
        "--set",
        "schedule.length=20 steps",
    ]);
    succeed(command.current_dir(&elsewhere));
    assert_eq!(steps(&workspace, "runs/x").len(), 20);
    let printed = fail(workspace.couplet(&["train", "data", "--resume"]), 1);
    assert!(printed.contains("not that of a run"), "{printed}");
}

#[test]
fn a_refused_resumption_changes_nothing() {
    let workspace = tiny();
    succeed(train(
        &workspace,
        "run",
        &["--set", "schedule.length=2 epochs"],
    ));
    let set = [
        "--set",
        "batch.global=16",
        "--set",
        "schedule.length=4 epochs",
    ];
    let resume = ["--resume", "--allow-changes"];
    succeed(train(&workspace, "run", &[&set[..], &resume].concat()));
    let files = ["config.toml", "changes.jsonl", "metrics.jsonl", "latest"];
    let read = || files.map(|file| workspace.read(&format!("run/{file}")));
    let before = read();
    let set = [
        "--set",
        "batch.global=8",
        "--set",
        "schedule.length=3 epochs",
    ];
    let printed = fail(train(&workspace, "run", &[&set[..], &resume].concat()), 1);
    assert!(printed.contains("has trained 40 already"), "{printed}");
    assert_eq!(read(), before);
    let set = [
        "--set",
        "batch.global=16",
        "--set",
        "schedule.length=5 epochs",
    ];
    succeed(train(
        &workspace,
        "run",
        &[&set[..], &["--resume"]].concat(),
    ));
}
