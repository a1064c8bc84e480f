//! `couplet sweep` from outside, on a tiny model.

use std::fs;

use serde_json::Value;

use crate::workspace::{Workspace, fail, succeed};

const CONFIG: &str = r#"
name = "tiny"
device = "cpu"
[model]
embed_dim = 16
[model.image]
kind = "vit"
image_size = 16
patch_size = 8
width = 16
layers = 1
heads = 2
[model.text]
context_length = 16
vocab_size = 49408
width = 8
layers = 1
heads = 2
[data.train]
source = "shapes"
samples = 160
[data.val]
source = "shapes"
samples = 40
[batch]
global = 16
[optimizer]
kind = "adamw"
lr = 1e-3
[schedule]
kind = "cosine"
length = "4 epochs"
[[eval]]
kind = "zero-shot"
dataset = "tiny-set.toml"
[log]
every = "1 step"
"#;

const DATASET: &str = r#"
name = "tiny"
source = "shapes"
split = "test"
classes = "shapes"
samples = 60
"#;

/// A learning rate that breaks the numbers, one that learns nothing, and one that learns.
fn sweep(metric: &str, more: &str) -> String {
    format!(
        "name = \"s\"\nconfig = \"config.toml\"\nmetric = \"{metric}\"\n{more}\n\
         [keys]\n\"optimizer.lr\" = [1e30, 1e-12, 1e-2]\n"
    )
}

/// Ranks by another metric; finished trials are not run again.
fn rank(place: &Workspace, metric: &str, more: &str) -> (Vec<Value>, String) {
    fs::write(place.path("sweep.toml"), sweep(metric, more)).unwrap();
    let printed = succeed(place.couplet(&["sweep", "sweep.toml", "--run-dir", "s"]));
    let ranking = place.json("s/ranking.json");
    (ranking.as_array().unwrap().clone(), printed)
}

#[test]
fn a_metric_ranks_trials_in_its_own_direction() {
    let place = Workspace::with(&[("config.toml", CONFIG), ("tiny-set.toml", DATASET)]);
    let (ranking, printed) = rank(&place, "loss", "");
    let learns = &ranking[0];
    assert_eq!(learns["set"][0], "optimizer.lr=0.01", "{printed}");
    assert!(ranking[1]["value"].as_f64() > learns["value"].as_f64());
    assert!(ranking[2]["value"].is_null(), "{printed}");
    assert!(!printed.contains("warning: goal"), "{printed}");

    for (metric, is_lower_better) in [
        ("eval/val/loss", true),
        ("eval/val/text_to_image_median_rank", true),
        ("eval/tiny/top1", false),
    ] {
        let (ranking, printed) = rank(&place, metric, "");
        let value = |at: usize| ranking[at]["value"].as_f64().unwrap();
        let reached = |trial: &Value| {
            let log = format!("s/{}", trial["trial"].as_str().unwrap());
            let values = place.metrics(&log);
            let values = values.iter().filter_map(|line| line[metric].as_f64());
            let values: Vec<f64> = values.collect();
            let (low, high) = values
                .iter()
                .fold((f64::MAX, f64::MIN), |(low, high), value| {
                    (low.min(*value), high.max(*value))
                });
            if is_lower_better { low } else { high }
        };
        assert_eq!(value(0), reached(&ranking[0]), "{metric}");
        assert_eq!(value(1), reached(&ranking[1]), "{metric}");
        let is_sorted = if is_lower_better {
            value(0) <= value(1)
        } else {
            value(0) >= value(1)
        };
        assert!(is_sorted && ranking[2]["value"].is_null(), "{printed}");
    }

    let (ranking, printed) = rank(&place, "loss", "goal = \"max\"");
    assert_eq!(ranking[0]["set"][0], "optimizer.lr=0.000000000001");
    assert!(printed.contains("warning: goal = \"max\""), "{printed}");
}

#[test]
fn a_metric_that_cannot_rank_is_rejected() {
    let place = Workspace::with(&[
        ("config.toml", CONFIG),
        ("tiny-set.toml", DATASET),
        ("top.toml", &sweep("eval/tiny/top2", "")),
        ("lr.toml", &sweep("lr", "")),
    ]);
    let printed = fail(place.couplet(&["sweep", "top.toml"]), 2);
    assert!(
        printed.contains("`eval/tiny/top2` is never measured"),
        "{printed}"
    );
    for name in ["loss", "grad_norm", "eval/tiny/top1", "eval/val/loss"] {
        assert!(printed.contains(name), "{name}: {printed}");
    }
    let printed = fail(place.couplet(&["sweep", "lr.toml"]), 2);
    assert!(printed.contains("goal: is required for `lr`"), "{printed}");
}

#[test]
fn all_mistakes_of_a_sweep_are_shown_at_once() {
    let place = Workspace::with(&[(
        "wrong.toml",
        "name = 3\nconfg = 'a.toml'\nmetric = 'loss'\nsearch = { kind = 'randm', trials = 0 }\n[keys]\n",
    )]);
    let printed = fail(place.couplet(&["sweep", "wrong.toml"]), 2);
    for part in [
        "error: name: expected a string, found 3\n --> wrong.toml:1:8\n",
        "error: confg: unknown key\n --> wrong.toml:2:1\n",
        "help: did you mean `config`?",
        "error: search.kind: unknown value `randm`\n --> wrong.toml:4:19\n",
        "error: search.trials: must be at least 1, not 0\n --> wrong.toml:4:37\n",
        "error: 4 mistakes in wrong.toml",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let place = Workspace::with(&[(
        "keys.toml",
        "name = 's'\nconfig = 'gone.toml'\nmetric = 'loss'\n[keys]\nseed = 3\n\"optimizer.lr\" = []\n",
    )]);
    let printed = fail(place.couplet(&["sweep", "keys.toml"]), 2);
    for part in [
        "--> keys.toml:2:10\n",
        "error: keys.seed: a grid needs a list of values\n --> keys.toml:5:8\n",
        "error: keys.optimizer.lr: must not be an empty list\n --> keys.toml:6:18\n",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}
