//! Parts of a batch, each with its own place in the data.

use serde_json::Value;

use crate::changes::{make_shards, on_shards, steps};
use crate::training::{tiny, train};
use crate::workspace::{fail, succeed};

#[test]
fn a_run_keeps_the_parts_of_its_batches() {
    let workspace = tiny();
    let run = |run: &str, more: &[&str]| train(&workspace, run, more);
    let parts = ["--set", "batch.parts=2"];
    for (name, set, count) in [("default", &[][..], 8), ("two", &parts[..], 2)] {
        let whole = format!("{name}-whole");
        succeed(run(&whole, set));
        let short = ["--set", "checkpoint.every=5 steps"];
        // Within the second epoch: at its start, other parts would do.
        workspace.kill_after(run(name, &[set, &short].concat()), name, 17);
        let files = || {
            ["config.toml", "metrics.jsonl", "latest"]
                .map(|file| workspace.read(&format!("{name}/{file}")))
        };
        let before = files();
        let resume = ["--resume", "--allow-changes"];
        let printed = fail(
            run(name, &[&["--set", "batch.parts=4"][..], &resume].concat()),
            1,
        );
        let message = format!("batch.parts: 4, but the run's batches have had {count} parts");
        assert!(printed.contains(&message), "{printed}");
        assert_eq!(files(), before);
        // Whether the config says it or not is no change that must be allowed.
        let same = format!("batch.parts={count}");
        let unset = ["--resume"];
        let set = ["--set", &same, "--resume"];
        succeed(run(name, if count == 8 { &set } else { &unset }));
        assert_eq!(steps(&workspace, name), steps(&workspace, &whole));
    }
    // Without bad samples, the batches of indexed data are the same, in however many parts.
    assert_eq!(steps(&workspace, "two"), steps(&workspace, "default"));
}

#[test]
fn smaller_batches_have_fewer_parts() {
    let workspace = tiny();
    let short = ["--set", "checkpoint.every=5 steps"];
    workspace.kill_after(train(&workspace, "run", &short), "run", 17);
    let smaller = ["--set", "batch.global=4", "--resume", "--allow-changes"];
    succeed(train(&workspace, "run", &smaller));
    let last = workspace.read("run/latest");
    let state = workspace.read(&format!(
        "run/checkpoints/{}/trainer/state.json",
        last.trim()
    ));
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["position"]["parts"].as_array().unwrap().len(), 4);
}

#[test]
fn a_stream_has_no_more_parts_than_shards() {
    let workspace = tiny();
    make_shards(&workspace, "shards");
    let stream = ["stream=true", "samples_per_epoch=96"].map(|key| format!("data.train.{key}"));
    let set = |parts: &str| -> Vec<String> {
        let all = stream
            .iter()
            .cloned()
            .chain([format!("batch.parts={parts}")]);
        all.flat_map(|key| ["--set".to_string(), key]).collect()
    };
    let run = |parts: &str| {
        let set = set(parts);
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        on_shards(&workspace, &format!("run-{parts}"), "shards", &set)
    };
    let printed = fail(run("4"), 2);
    assert!(
        printed.contains("4 is more than the 3 shards of the stream"),
        "{printed}"
    );
    succeed(run("2"));
    let state = workspace.read("run-2/checkpoints/step-00000018/trainer/state.json");
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["position"]["parts"].as_array().unwrap().len(), 2);
}
