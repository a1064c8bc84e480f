//! `couplet init` on each kind of data, and what the written config trains.

use std::fs;
use std::process::Command;

use crate::workspace::{Workspace, fail, succeed};

const SHORT: [&str; 6] = [
    "--set",
    "schedule.length=2 steps",
    "--set",
    "batch.global=8",
    "--set",
    "device=flex",
];

/// Pairs of `shapes` in a format.
fn data(format: &str, folder: &str) -> Workspace {
    let workspace = Workspace::with(&[]);
    succeed(workspace.couplet(&[
        "data",
        "shapes",
        folder,
        "--format",
        format,
        "--samples",
        "40",
        "--image-size",
        "32",
    ]));
    workspace
}

/// Writes a config for `path`, trains it for two steps and returns what `init` printed.
fn init_and_train(workspace: &Workspace, path: &str, name: &str) -> String {
    let printed = succeed(workspace.couplet(&["init", path]));
    let config = format!("{name}.toml");
    let train = ["train", &config];
    succeed(workspace.couplet(&[&train[..], &SHORT].concat()));
    assert_eq!(workspace.losses(&format!("runs/{name}")).len(), 1);
    printed
}

#[test]
fn every_kind_of_pairs_becomes_a_config_that_trains() {
    for (format, path, name, kind) in [
        (
            "folder",
            "photos",
            "photos",
            "images with a .txt next to each",
        ),
        (
            "csv",
            "table/pairs.csv",
            "pairs",
            "images in `filepath` and captions in `title`",
        ),
        (
            "webdataset",
            "shards",
            "shards",
            "tar shards with .txt captions",
        ),
        #[cfg(feature = "parquet")]
        (
            "parquet",
            "tables",
            "tables",
            "images in `image` and captions in `caption`",
        ),
    ] {
        let folder = path.split('/').next().unwrap();
        let printed = init_and_train(&data(format, folder), path, name);
        assert!(printed.contains("40 pairs"), "{printed}");
        assert!(printed.contains(kind), "{printed}");
        assert!(
            printed.contains(&format!("couplet train {name}.toml")),
            "{printed}"
        );
    }
}

#[test]
fn class_folders_with_a_test_split_are_evaluated_while_they_train() {
    let workspace = data("class-folder", "pets/train");
    succeed(workspace.couplet(&[
        "data",
        "shapes",
        "pets/test",
        "--format",
        "class-folder",
        "--samples",
        "30",
        "--image-size",
        "32",
    ]));
    // Both splits have the same classes.
    for (one, other) in [("train", "test"), ("test", "train")] {
        for entry in fs::read_dir(workspace.path(&format!("pets/{one}"))).unwrap() {
            let entry = entry.unwrap();
            let missing = workspace
                .path(&format!("pets/{other}"))
                .join(entry.file_name());
            if !missing.exists() {
                fs::create_dir(&missing).unwrap();
                let image = fs::read_dir(entry.path()).unwrap().next().unwrap().unwrap();
                fs::copy(image.path(), missing.join("copy.png")).unwrap();
            }
        }
    }
    init_and_train(&workspace, "pets", "pets");
    assert!(
        workspace
            .read("pets.toml")
            .contains("best = \"eval/test/top1\"")
    );
    let metrics = workspace.read("runs/pets/metrics.jsonl");
    assert!(metrics.contains("eval/test/top1"), "{metrics}");
}

#[test]
fn compressed_shards_and_their_held_out_part_are_streams() {
    let workspace = data("webdataset", "shards");
    let shard = fs::read_dir(workspace.path("shards"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    for name in ["train-0", "val-0"] {
        let tar = workspace.path(&format!("packed/{name}.tar"));
        fs::create_dir_all(tar.parent().unwrap()).unwrap();
        fs::copy(shard.path(), &tar).unwrap();
        succeed(Command::new("gzip").arg(tar));
    }
    let printed = init_and_train(&workspace, "packed", "packed");
    assert!(printed.contains("40 pairs"), "{printed}");
    assert!(
        workspace
            .read("runs/packed/metrics.jsonl")
            .contains("eval/val/loss")
    );
}

#[test]
fn a_config_is_not_replaced_and_may_be_elsewhere() {
    let workspace = data("folder", "photos");
    fs::create_dir(workspace.path("configs")).unwrap();
    let elsewhere = [
        "init",
        "photos",
        "--out",
        "configs/a.toml",
        "--name",
        "a",
        "--val",
        "photos",
    ];
    succeed(workspace.couplet(&elsewhere));
    let printed = fail(workspace.couplet(&elsewhere), 1);
    assert!(
        printed.contains("configs/a.toml exists; give --out FILE, or --force"),
        "{printed}"
    );
    succeed(workspace.couplet(&[&elsewhere[..], &["--force"]].concat()));
    let text = workspace.read("configs/a.toml");
    assert!(text.contains("[data.val]\nsource = \"folder\""), "{text}");
    assert!(text.contains("best = \"eval/val/loss\""), "{text}");
    succeed(workspace.couplet(&[&["train", "configs/a.toml"][..], &SHORT].concat()));
    let left: Vec<_> = fs::read_dir(workspace.path("configs")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_is_no_data_is_an_error_that_says_what_was_found() {
    let workspace = Workspace::with(&[("notes.md", "x")]);
    for (path, words) in [
        (".", "found no images, tables, Parquet files or tar files"),
        ("notes.md", "neither a folder nor a .csv"),
        ("nowhere", "no such file or folder"),
    ] {
        let printed = fail(workspace.couplet(&["init", path, "--name", "x"]), 1);
        assert!(printed.contains(words), "{printed}");
        assert!(!workspace.path("x.toml").exists());
    }
}
