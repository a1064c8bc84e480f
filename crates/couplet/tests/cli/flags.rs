//! Options that are alike in all commands.

use std::process::Command;

use serde_json::Value;

use crate::training::tiny;
use crate::workspace::{fail, succeed, text};

/// Standard output, which is JSON and nothing else.
fn json(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[test]
fn json_is_alone_on_standard_output_or_in_a_file() {
    let place = tiny();
    let short = [
        "--device",
        "cpu",
        "--threads",
        "1",
        "--set",
        "schedule.length=5 steps",
    ];
    succeed(place.couplet(&[&["train", "tiny.toml"][..], &short].concat()));
    assert!(place.read("runs/tiny/config.toml").contains("threads = 1"));
    let model = ["--model", "runs/tiny"];
    let dataset = ["--dataset", "shapes", "--dataset", "tiny-set.toml"];
    let results = |line: &str, more: &[&str]| {
        let words: Vec<&str> = line.split(' ').collect();
        json(place.couplet(&[&words[..], more, &["--json", "-"]].concat()))
    };
    let both = [&model[..], &dataset].concat();
    let found = results("eval zero-shot", &both);
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!(found[1]["dataset"], "tiny");
    let suite = results("eval suite", &both);
    assert_eq!(suite[0]["metrics"], found[0]["metrics"]);
    let old = results("eval suite runs/tiny shapes tiny-set.toml", &[]);
    assert_eq!(old, suite);
    assert!(results("eval knn", &[&model[..], &["--dataset", "shapes"]].concat()).is_array());
    assert_eq!(results("eval compare runs/tiny", &[])[0]["run"], "tiny");
    assert_eq!(results("eval datasets", &[])[0]["name"], "shapes");
    assert_eq!(results("plan tiny.toml", &[])["steps"], 30);
    assert_eq!(results("data stats tiny.toml", &[])["width"]["max"], 16);
    assert_eq!(results("data check tiny.toml", &[])["bad"], 0);
    assert!(results("data bench tiny.toml --seconds 0.1", &[])["samples"].is_number());
    assert_eq!(results("verify runs/tiny", &[])["is_sound"], true);
    assert_eq!(
        results("verify runs/tiny --replay 1", &[])["replay"]["compared"],
        1
    );
    let described = results("model describe", &model);
    assert_eq!(described["architecture"]["embed_dim"], 16);
    assert_eq!(results("model describe runs/tiny", &[]), described);
    assert!(results("model list", &[])["ViT-B-32"].is_object());
    let bench = "bench step --model ViT-Ti-8-32 --batch 2 --steps 1 --warm-up 0 --device cpu";
    assert_eq!(results(bench, &[])["steps"], 1);
    succeed(place.couplet(&[
        "data",
        "shapes",
        "images",
        "--format",
        "folder",
        "--samples",
        "3",
    ]));
    let labels = [
        "classify",
        "--model",
        "runs/tiny",
        "--labels",
        "a,b",
        "images",
        "--json",
        "-",
    ];
    let classified = json(place.couplet(&labels));
    assert_eq!(classified.as_array().unwrap().len(), 3);

    // In a file, and as a flag before or after the config.
    let printed = succeed(place.couplet(&["plan", "tiny.toml", "--json", "plan.json"]));
    assert!(printed.contains("arithmetic"), "{printed}");
    let plan = place.json("plan.json");
    for line in [
        ["plan", "--json", "tiny.toml"],
        ["plan", "tiny.toml", "--json"],
    ] {
        assert_eq!(json(place.couplet(&line)), plan);
    }
    assert!(place.read("tiny.toml").contains("[model]"));
}

#[test]
fn a_model_is_given_by_name_or_place() {
    let place = tiny();
    let short = ["--set", "schedule.length=5 steps"];
    succeed(place.couplet(&[&["train", "tiny.toml"][..], &short].concat()));
    let convert = ["model", "convert", "--format", "open_clip"];
    succeed(place.couplet(&[&convert[..], &["runs/tiny", "a"]].concat()));
    succeed(place.couplet(&[&convert[..], &["--model", "runs/tiny", "b"]].concat()));
    assert_eq!(
        place.read("a/open_clip_config.json"),
        place.read("b/open_clip_config.json")
    );
}

#[test]
fn several_ranks_are_planned_from_one() {
    let place = tiny();
    let plan = |more: &[&str]| place.couplet(&[&["plan", "tiny.toml"][..], more].concat());
    let result = |more: &[&str]| json(plan(&[more, &["--json"]].concat()));
    let batch = result(&[])["batch"].as_u64().unwrap();
    let four = result(&["--ranks", "4", "--speed", "1000"]);
    assert_eq!(four["batch"], batch);
    assert_eq!(four["ranks"]["batch"], batch / 4);
    let speed = |plan: &Value| plan["samples_per_second"].as_f64().unwrap();
    assert!((1000.0..4000.0).contains(&speed(&four)), "{four}");
    let seconds = four["ranks"]["seconds_of_a_step"].as_object().unwrap();
    let sum: f64 = seconds.values().filter_map(Value::as_f64).sum();
    let step = four["ranks"]["step_seconds"].as_f64().unwrap();
    assert!((sum / step - 1.0).abs() < 1e-9, "{four}");
    let slow = ["--ranks-per-node", "1", "--network", "1 Mbit"];
    let far = result(&[&["--ranks", "4", "--speed", "1000"][..], &slow].concat());
    assert!(speed(&far) < 0.5 * speed(&four), "{far}");

    let printed = succeed(plan(&["--ranks", "2", "--measure"]));
    for part in [
        "2 on one machine",
        "of each rank",
        "slowest rank",
        "its share",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
    assert!(
        printed.lines().all(|line| line.chars().count() <= 110),
        "{printed}"
    );
    let printed = succeed(plan(&["--ranks", "2"]));
    assert!(printed.contains("unknown; give --speed"), "{printed}");
    let printed = fail(plan(&["--ranks", "3"]), 1);
    assert!(printed.contains("--ranks 3: does not divide") && printed.contains("1, 2, 4"));
    let printed = fail(plan(&["--ranks", "2", "--network", "fast"]), 2);
    assert!(printed.contains("such as `100 Gbit`"), "{printed}");
}
