//! What commands say: numbers, weights, comparisons, pages and versions.

use std::path::Path;

use serde_json::Value;

use crate::training::{tiny, train};
use crate::workspace::succeed;

#[test]
fn numbers_are_written_as_people_write_them() {
    let workspace = tiny();
    let set = [
        "--set",
        "loss={ kind = 'softmax', label_smoothing = 0.1 }",
        "--set",
        "schedule.length=1 step",
        "--set",
        "schedule.warmup=",
    ];
    let printed = succeed(train(&workspace, "run", &set));
    assert!(printed.contains("; 1 step in total"), "{printed}");
    assert!(printed.contains("finished 1 step in "), "{printed}");
    assert!(
        workspace
            .read("run/config.toml")
            .contains("label_smoothing = 0.1\n")
    );
    let folder = workspace.read("run/latest");
    let config = format!("run/checkpoints/{}/open_clip_config.json", folder.trim());
    let mean = &workspace.json(&config)["preprocess_cfg"]["mean"][0];
    assert_eq!(mean.to_string(), "0.48145467");
    for line in workspace.read("run/metrics.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for key in [
            "loss",
            "logit_scale",
            "time",
            "eval/tiny/top1",
            "eval/tiny/mean_per_class",
        ] {
            let digits = line[key].to_string().len();
            assert!(line[key].is_null() || digits <= 14, "{key}: {}", line[key]);
        }
    }
    let replayed = succeed(workspace.couplet(&["verify", "run"]));
    assert!(!replayed.contains("damaged"), "{replayed}");
}

#[test]
fn weights_that_a_run_starts_from_are_named() {
    let workspace = tiny();
    let printed = succeed(train(
        &workspace,
        "first",
        &["--set", "schedule.length=5 steps"],
    ));
    assert!(
        printed.contains("weights    initialized at random, seed 0"),
        "{printed}"
    );
    let set = [
        "--set",
        "model.weights=first",
        "--set",
        "schedule.length=5 steps",
    ];
    let printed = succeed(train(&workspace, "second", &set));
    let line = printed
        .lines()
        .find(|line| line.starts_with("weights "))
        .unwrap();
    assert!(
        line.contains(" tensors of first/checkpoints/step-00000005/"),
        "{line}"
    );
    assert!(line.contains("(best by eval/tiny/top1, "), "{line}");
    let set = [&set[..], &["--set", "model.text.context_length=12"]].concat();
    let printed = succeed(train(&workspace, "third", &set));
    assert!(printed.contains("resized    "), "{printed}");
}

#[test]
fn runs_are_compared_with_the_first() {
    let workspace = tiny();
    let short = ["--set", "schedule.length=6 steps"];
    succeed(train(&workspace, "base", &short));
    succeed(train(
        &workspace,
        "high",
        &[&short[..], &["--set", "optimizer.lr=0.05"]].concat(),
    ));
    let compare = ["eval", "compare", "base", "high", "--json", "compared.json"];
    let printed = succeed(workspace.couplet(&compare));
    let json = workspace.json("compared.json");
    let last = |run: &str| {
        let lines = workspace.metrics(run);
        lines
            .iter()
            .rev()
            .find_map(|line| line["eval/tiny/top5"].as_f64())
            .unwrap()
    };
    let delta = json[1]["metrics"]["tiny/top5"]["delta"]["last"]
        .as_f64()
        .unwrap();
    assert_eq!(delta, last("high") - last("base"));
    assert_eq!(
        json[1]["metrics"]["tiny/top5"]["last"]["value"],
        last("high")
    );
    assert!(json[0]["metrics"]["tiny/top5"].get("delta").is_none());
    assert_eq!(json[1]["config"]["optimizer.lr"], "0.05");
    assert_eq!(json[0]["config"].as_object().unwrap().len(), 1);
    let row = printed
        .lines()
        .find(|line| line.contains("optimizer.lr"))
        .unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["optimizer.lr", "0.001", "0.05"]);
    assert!(
        printed.contains("base: --model opens the checkpoint best by eval/tiny/top1"),
        "{printed}"
    );
}

#[test]
fn pages_completions_and_the_version_are_printed() {
    let workspace = tiny();
    let version = succeed(workspace.couplet(&["--version"]));
    let mut lines = version.lines();
    let first = concat!("couplet ", env!("CARGO_PKG_VERSION"));
    assert!(lines.next().unwrap().starts_with(first), "{version}");
    assert!(
        version.contains("\nfeatures: ") && version.contains("\ndevices: "),
        "{version}"
    );
    for (shell, part) in [
        ("bash", "complete -F _couplet"),
        ("zsh", "#compdef couplet"),
        ("fish", "complete -c couplet"),
    ] {
        let script = succeed(workspace.couplet(&["completions", shell]));
        assert!(
            script.contains(part) && script.contains("zero-shot"),
            "{shell}"
        );
    }
    let page = succeed(workspace.couplet(&["man"]));
    assert!(
        page.contains(".TH") && page.contains("couplet\\-train(1)"),
        "{page}"
    );
    succeed(workspace.couplet(&["man", "--out", "pages"]));
    for page in ["couplet.1", "couplet-train.1", "couplet-eval-zero-shot.1"] {
        let text = workspace.read(&format!("pages/{page}"));
        assert!(text.contains(".SH OPTIONS"), "{page}");
    }
    assert!(
        workspace
            .read("pages/couplet-train.1")
            .contains("Examples:")
    );
    assert!(Path::new(&workspace.path("pages/couplet-verify.1")).is_file());
}
