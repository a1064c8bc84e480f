//! What shows runs: reports and lists.

use serde_json::Value;

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

    let printed = succeed(workspace.couplet(&["runs", "--json", "runs.json"]));
    assert!(printed.contains("runs/a  finished     5   5"), "{printed}");
    let listed = workspace.json("runs.json");
    assert_eq!(listed[1]["folder"], "runs/b");
    assert_eq!(listed[1]["best"]["metric"], "eval/tiny/top1");
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
