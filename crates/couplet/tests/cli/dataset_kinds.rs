//! Datasets that no file describes.

use std::fs;

use crate::training::tiny;
use crate::workspace::{Workspace, fail, succeed};

/// A tiny run, and drawn images in several formats.
fn place() -> Workspace {
    let place = tiny();
    let short = ["--set", "schedule.length=5 steps"];
    succeed(place.couplet(&[&["train", "tiny.toml"][..], &short].concat()));
    for (out, format, samples) in [
        ("pairs", "folder", "12"),
        ("shards", "webdataset", "12"),
        ("table", "csv", "12"),
        ("sets/train", "class-folder", "400"),
        ("sets/val", "class-folder", "400"),
    ] {
        let drawn = ["--samples", samples, "--image-size", "16"];
        let command = ["data", "shapes", out, "--format", format];
        succeed(place.couplet(&[&command[..], &drawn].concat()));
    }
    place
}

#[test]
fn a_folder_a_table_and_shards_of_pairs_are_datasets_for_retrieval() {
    let place = place();
    let retrieve = |dataset: &str| {
        let command = ["eval", "retrieval", "--model", "runs/tiny", "--dataset"];
        place.couplet(&[&command[..], &[dataset]].concat())
    };
    let of = |dataset: &str, what: &str| {
        let printed = succeed(retrieve(dataset));
        assert!(printed.contains("12 images of"), "{dataset}: {printed}");
        assert!(printed.contains(what), "{dataset}: {printed}");
        let numbers = printed.lines().find(|line| line.contains("retrieval "));
        let numbers = numbers.unwrap_or_default().split_once(" 12 ");
        numbers.map(|(_, numbers)| numbers.to_string())
    };
    let numbers = of("pairs", "(images with captions in .txt files)");
    for (dataset, what) in [
        ("shards", "(tar shards with captions (1))"),
        ("shards/*.tar", "(tar shards with captions (1))"),
        ("table", "(a table with the columns `filepath` and `title`)"),
        (
            "table/*.csv",
            "(a table with the columns `filepath` and `title`)",
        ),
        (
            "table/pairs.csv",
            "(a table with the columns `filepath` and `title`)",
        ),
    ] {
        assert_eq!(of(dataset, what), numbers, "{dataset}");
    }
    let printed = fail(retrieve("sets"), 1);
    assert!(printed.contains("has classes but no captions"), "{printed}");
    let text = fs::read_dir(place.path("pairs")).unwrap();
    let mut text = text.map(|entry| entry.unwrap().path());
    let text = text.find(|path| path.extension().is_some_and(|end| end == "txt"));
    fs::remove_file(text.unwrap()).unwrap();
    let printed = fail(retrieve("pairs"), 1);
    assert!(printed.contains("1 of 12 images have no .txt"), "{printed}");
}

#[test]
fn folders_of_splits_are_a_dataset_for_all_that_needs_classes() {
    let place = place();
    let evaluate = |protocol: &str| {
        let command = [
            "eval",
            protocol,
            "--model",
            "runs/tiny",
            "--dataset",
            "sets",
        ];
        place.couplet(&command)
    };
    for protocol in ["zero-shot", "knn", "linear-probe"] {
        let printed = succeed(evaluate(protocol));
        let found = "(one folder per class, in val, with training images in train)";
        assert!(printed.contains(found), "{printed}");
        assert!(printed.contains(" 400 "), "{printed}");
    }
    let classify = [
        "classify={ dataset = 'sets' }",
        "data={}",
        "eval=[]",
        "batch.global=32",
    ];
    let set = classify.iter().chain(&["checkpoint.best=eval/sets/top1"]);
    let set: Vec<&str> = set.flat_map(|pair| ["--set", pair]).collect();
    let command = ["train", "tiny.toml", "--run-dir", "head"];
    let printed = succeed(place.couplet(&[&command[..], &set].concat()));
    assert!(printed.contains("400 samples per epoch"), "{printed}");
}

#[test]
fn a_folder_that_is_no_dataset_says_what_one_is() {
    let place = place();
    fs::create_dir(place.path("flat")).unwrap();
    fs::write(place.path("flat/1.jpg"), "x").unwrap();
    let command = [
        "eval",
        "zero-shot",
        "--model",
        "runs/tiny",
        "--dataset",
        "flat",
    ];
    let printed = fail(place.couplet(&command), 1);
    assert!(
        printed.contains("1 images without classes or captions in it; expected one sub-folder"),
        "{printed}"
    );
}
