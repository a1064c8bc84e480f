//! What shows runs: reports and lists.

use serde_json::{Value, json};

use crate::training::{tiny, train};
use crate::workspace::{Workspace, succeed, text};

/// The JSON in a report.
fn data(workspace: &Workspace, page: &str) -> Value {
    let page = workspace.read(page);
    let begin = "<script id=\"data\" type=\"application/json\">";
    let (_, data) = page.split_once(begin).unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_report_has_the_numbers_of_its_runs() {
    let workspace = tiny();
    succeed(train(
        &workspace,
        "runs/a",
        &["--set", "schedule.length=5 steps"],
    ));
    let more = ["--set", "schedule.length=5 steps", "--set", "seed=1"];
    succeed(train(&workspace, "runs/b", &more));
    let printed = succeed(workspace.couplet(&["report", "runs/a", "runs/b"]));
    assert!(
        printed.contains("wrote a report of 2 runs to report.html"),
        "{printed}"
    );
    let report = data(&workspace, "report.html");
    for (at, run) in ["runs/a", "runs/b"].into_iter().enumerate() {
        let losses: Vec<Value> = workspace
            .losses(run)
            .iter()
            .map(|(_, loss)| (*loss).into())
            .collect();
        assert_eq!(report["runs"][at]["training"]["loss"], Value::from(losses));
        assert_eq!(report["runs"][at]["state"], "finished");
        assert_eq!(report["runs"][at]["starts"][0]["total_steps"], 5);
        let logged = workspace.metrics(run);
        let top1 = logged
            .iter()
            .filter_map(|line| line["eval/tiny/top1"].as_f64());
        let shown = report["runs"][at]["evaluations"]["eval/tiny/top1"]
            .as_array()
            .unwrap();
        let shown = shown.iter().map(|point| point["value"].as_f64().unwrap());
        assert!(shown.eq(top1));
    }
    assert_eq!(report["differences"][0]["key"], "seed");
    let found = &report["runs"][1]["findings"];
    let written = workspace.json("runs/b/findings/findings.json");
    assert_eq!((found, &found["problems"]), (&written, &json!([])));
    // Of the checkpoint that `eval` opens, on all images.
    let eval = [
        "eval",
        "zero-shot",
        "--model",
        "runs/b",
        "--dataset",
        "tiny-set.toml",
        "--json",
        "eval.json",
    ];
    succeed(workspace.couplet(&eval));
    let wanted = workspace.json("eval.json")[0]["top1"].as_f64().unwrap();
    let classes = &found["classes"][0];
    assert!(
        (classes["top1"].as_f64().unwrap() - wanted).abs() < 1e-9,
        "{classes}"
    );
    assert_eq!(classes["images"], classes["of"]);
    let predictions = workspace.json_lines("runs/b/findings/predictions-tiny.jsonl");
    let right = predictions
        .iter()
        .filter(|one| one["class"] == one["predicted"])
        .count();
    let images = f64::from(u32::try_from(predictions.len()).unwrap());
    assert!((f64::from(u32::try_from(right).unwrap()) / images - wanted).abs() < 1e-9);
    assert!(
        classes["samples"][0]["picture"]
            .as_str()
            .unwrap()
            .starts_with("data:image/jpeg;base64,")
    );
    assert_eq!(found["pairs"][0]["of"], "training pairs");
    assert_eq!(report["comparisons"][0]["images"], predictions.len());

    let printed = succeed(workspace.couplet(&["runs", "--json", "runs.json"]));
    assert!(printed.contains("runs/a  finished     5   5"), "{printed}");
    let listed = workspace.json("runs.json");
    assert_eq!(listed[1]["folder"], "runs/b");
    assert_eq!(listed[1]["best"]["metric"], "eval/tiny/top1");
}

#[test]
fn what_was_found_stays_with_the_run() {
    let workspace = tiny();
    succeed(train(
        &workspace,
        "runs/b",
        &["--set", "schedule.length=5 steps"],
    ));
    succeed(workspace.couplet(&["report", "runs/b"]));
    // What was found is not looked for again, stays where a look fails, and goes with the run.
    let file = workspace.path("runs/b/findings/findings.json");
    let changed = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let before = changed();
    succeed(workspace.couplet(&["report", "runs/b", "--out", "again.html"]));
    assert_eq!(changed(), before);
    std::fs::rename(workspace.path("tiny-set.toml"), workspace.path("gone.toml")).unwrap();
    let printed =
        succeed(workspace.couplet(&["report", "runs/b", "--pairs", "9", "--out", "fails.html"]));
    assert!(
        printed.contains("the run's data cannot be opened"),
        "{printed}"
    );
    assert_eq!(changed(), before);
    std::fs::rename(workspace.path("gone.toml"), workspace.path("tiny-set.toml")).unwrap();
    let printed =
        succeed(workspace.couplet(&["report", "runs/b", "--no-model", "--out", "plain.html"]));
    assert!(printed.contains("wrote a report of the run"), "{printed}");
    assert_eq!(
        data(&workspace, "plain.html")["runs"][0]["findings"],
        Value::Null
    );
    succeed(train(
        &workspace,
        "runs/b",
        &["--overwrite", "--set", "schedule.length=5 steps"],
    ));
    assert!(!workspace.path("runs/b/findings").exists());
}

#[test]
fn a_folder_that_is_no_run_is_named() {
    let workspace = tiny();
    let output = workspace.couplet(&["report", "data"]).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed.contains("data: not a run's folder"), "{printed}");
    assert!(!workspace.path("report.html").exists());
    let output = workspace.couplet(&["runs", "."]).output().unwrap();
    assert!(
        text(&output).contains("no run is in .; `couplet train` begins one, or give the folder")
    );
}
