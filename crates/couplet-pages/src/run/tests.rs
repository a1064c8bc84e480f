use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::Report;

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// A line of half a second a step.
fn line(step: u64, loss: f64) -> String {
    let (samples, time) = (
        8 * step,
        Value::from(step / 2).to_string() + [".0", ".5"][usize::from(step % 2 == 1)],
    );
    format!(
        r#"{{"step":{step},"epoch":1,"samples_seen":{samples},"time":{time},"loss":{loss},"lr":0.1}}"#
    ) + "\n"
}

fn evaluation(step: u64, top1: f64) -> String {
    format!(
        r#"{{"step":{step},"epoch":1,"samples_seen":{},"time":9,"eval/a/b/top1":{top1},"eval/a/b/images":64,"eval/a/b/skipped":0}}"#,
        8 * step
    ) + "\n"
}

fn shown(runs: &[&Path]) -> Value {
    let runs = runs.iter().map(|run| Run::read(run).unwrap()).collect();
    serde_json::to_value(Report::new("couplet 9", runs)).unwrap()
}

#[test]
fn a_run_with_bad_samples_warnings_and_a_resumed_middle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let head = r#""epoch":1,"samples_seen":24,"time":1.5"#;
    let log = line(1, 2.5)
        + &line(2, 2.0)
        + &evaluation(2, 0.5)
        + &format!("{{\"step\":3,{head},\"skipped_step\":true,\"loss_scale\":8}}\n")
        + &format!("{{\"step\":3,{head},\"changes\":[\"optimizer.lr: 0.1 instead of 0.2\"]}}\n")
        + "{\"step\":4,\"epo\n"
        + &line(4, 1.5)
        + &evaluation(4, 0.75);
    write(path, "metrics.jsonl", &log);
    let skip = |shard: &str, cause: &str, samples: u64| {
        json!({"epoch": 0, "shard": shard, "key": "k", "cause": cause, "detail": "</script>", "samples": samples}).to_string() + "\n"
    };
    let skips = skip("0.tar", "corrupt-image", 1)
        + &skip("1.tar", "corrupt-image", 1)
        + &skip("1.tar", "damaged-shard", 40);
    write(path, "skipped.jsonl", &skips);
    let text = "2026-01-01T00:00:00Z warning: early\n\
        2026-01-01T00:00:01Z step 2/4  epoch 1  loss 2\n\
        2026-01-01T00:00:02Z warning: the same\n\
        2026-01-01T00:00:03Z step 4/4  epoch 1  loss 1.5\n\
        2026-01-01T00:00:04Z warning: the same\n";
    write(path, "train.log", text);
    let starts = json!({"starts": [
        {"started": "x", "outcome": "interrupted", "from_step": 0, "to_step": 3},
        {"started": "y", "outcome": "finished", "from_step": 3, "to_step": 4},
    ]});
    write(path, "record.json", &starts.to_string());
    write(path, "config.toml", "name = \"a\"\n");

    let report = shown(&[path]);
    let run = &report["runs"][0];
    assert_eq!(run["state"], "finished");
    assert_eq!(run["training"]["loss"], json!([2.5, 2.0, 1.5]));
    assert_eq!(
        run["places"][2],
        json!({"step": 4, "epoch": 1, "samples_seen": 32, "time": 2.0})
    );
    let top1 = &run["evaluations"]["eval/a/b/top1"];
    assert_eq!(
        (&top1[0]["value"], &top1[1]["value"], &top1[1]["step"]),
        (&json!(0.5), &json!(0.75), &json!(4))
    );
    assert_eq!(run["images"], json!({"a/b": [64, 0]}));
    assert_eq!(
        (
            &run["overflows"],
            &run["first_overflow"],
            &run["damaged_lines"]
        ),
        (&json!(1), &json!(3), &json!(1))
    );
    assert_eq!(
        run["changes"][0]["changes"][0],
        "optimizer.lr: 0.1 instead of 0.2"
    );
    let skipped = &run["skipped"];
    assert_eq!(skipped["samples"], 42);
    assert_eq!(
        skipped["causes"][0],
        json!({"name": "damaged-shard", "samples": 40})
    );
    assert_eq!(
        skipped["shards"][0],
        json!({"name": "1.tar", "samples": 41})
    );
    assert_eq!(skipped["examples"].as_array().unwrap().len(), 3);
    let warnings = &run["warnings"];
    assert_eq!(
        (
            &warnings[0]["step"],
            &warnings[1]["step"],
            &warnings[1]["times"]
        ),
        (&json!(0), &json!(2), &json!(2))
    );
    let metric = &report["metrics"]["eval/a/b/top1"];
    assert_eq!(
        (&metric["factor"], &metric["unit"], &metric["better"]),
        (&json!(100.0), &json!("%"), &json!("higher"))
    );

    let page = Report::new("couplet 9", vec![Run::read(path).unwrap()]).html();
    assert_eq!(
        page.matches("</script>").count(),
        3,
        "a detail is no markup"
    );
}

#[test]
fn a_long_log_keeps_its_spikes_and_its_ends() {
    let folder = tempfile::tempdir().unwrap();
    let spike = 34_567;
    let log: String = (1..=100_000)
        .map(|step| line(step, if step == spike { 99.0 } else { 1.0 }))
        .collect();
    write(folder.path(), "metrics.jsonl", &log);
    let report = shown(&[folder.path()]);
    let run = &report["runs"][0];
    assert_eq!(run["lines"], 100_000);
    let places = run["places"].as_array().unwrap();
    assert!((2000..=4001).contains(&places.len()), "{}", places.len());
    assert_eq!(
        (&places[0]["step"], &places[places.len() - 1]["step"]),
        (&json!(1), &json!(100_000))
    );
    let loss = run["training"]["loss"].as_array().unwrap();
    let at = loss.iter().position(|loss| *loss == 99.0).unwrap();
    assert_eq!(places[at]["step"], spike);
    // 98 more in a group of 75 lines.
    let mean = run["means"]["loss"][at].as_f64().unwrap();
    assert!((mean - (1.0 + 98.0 / 75.0)).abs() < 1e-9, "{mean}");
}

#[test]
fn a_line_that_is_being_written_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let whole = line(1, 2.0) + &line(2, 1.0);
    write(folder.path(), "metrics.jsonl", &whole[..whole.len() - 9]);
    let report = shown(&[folder.path()]);
    let run = &report["runs"][0];
    assert_eq!(
        (&run["lines"], &run["damaged_lines"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn runs_with_one_name_are_told_apart_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|parent| folder.path().join(parent).join("run"));
    for (at, path) in paths.iter().enumerate() {
        fs::create_dir_all(path).unwrap();
        write(path, "metrics.jsonl", &line(1, 1.0));
        write(path, "config.toml", &format!("seed = {at}\n"));
    }
    let report = shown(&[&paths[0], &paths[1]]);
    assert_ne!(report["runs"][0]["name"], report["runs"][1]["name"]);
    assert_eq!(
        report["differences"],
        json!([{"key": "seed", "values": ["0", "1"]}])
    );
    assert_eq!(report["runs"][0]["state"], "unknown");
}

#[test]
fn a_running_run_says_how_long_it_will_take() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = line(10, 2.0) + &line(20, 1.0) + &evaluation(20, 0.25) + &evaluation(24, 0.125);
    write(path, "metrics.jsonl", &log);
    let config = "[model]\npreset = \"ViT-S-16\"\n[checkpoint]\nbest = \"eval/a/b/top1\"\n";
    write(path, "config.toml", config);
    let starts = json!({"starts": [{"outcome": null, "from_step": 0, "total_steps": 64}]});
    write(path, "record.json", &starts.to_string());
    write(path, "lock", "");
    let summary = || Summary::read(path).unwrap();
    let killed = summary();
    assert_eq!((killed.state, killed.seconds_left), (State::Killed, None));
    let lock = fs::File::open(path.join("lock")).unwrap();
    lock.lock().unwrap();
    let running = summary();
    assert_eq!((running.state, running.step), (State::Running, 24));
    assert_eq!(
        running.seconds_left,
        Some(20.0),
        "40 steps of half a second"
    );
    assert_eq!((running.total_steps, running.loss), (Some(64), Some(1.0)));
    let best = running.best.unwrap();
    assert_eq!((best.step, best.shown().as_str()), (20, "25.00%"));
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Run::read(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("not a run's folder: it has no metrics.jsonl"),
        "{error}"
    );
}
