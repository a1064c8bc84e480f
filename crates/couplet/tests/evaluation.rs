//! `couplet eval` from outside, on a tiny model.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const CONFIG: &str = r#"
name = "tiny"
device = "flex"
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
samples = 80
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
length = "2 epochs"
[checkpoint]
best = "eval/val/loss"
"#;

const DATASET: &str = r#"
name = "tiny"
source = "shapes"
split = "test"
classes = "shapes"
samples = 60
"#;

/// A trained run and a dataset.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(place.path("config.toml"), CONFIG).unwrap();
        fs::write(place.path("tiny.toml"), DATASET).unwrap();
        let mut train = place.couplet(&["train"]);
        train.arg(place.path("config.toml"));
        let output = train
            .arg("--run-dir")
            .arg(place.path("run"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Features are kept in the place, not in the user's cache.
    fn couplet(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        command
            .args(arguments)
            .env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// An evaluation's report as JSON, and what it printed.
    fn eval(&self, protocol: &str, more: &[&str]) -> (Value, String) {
        let mut command = self.couplet(&["eval", protocol, "--model"]);
        command
            .arg(self.path("run"))
            .arg("--dataset")
            .arg(self.path("tiny.toml"));
        command
            .arg("--json")
            .arg(self.path("report.json"))
            .args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let report = fs::read_to_string(self.path("report.json")).unwrap();
        (serde_json::from_str(&report).unwrap(), text(&output))
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn held_out_pairs_are_judged_and_choose_the_best_checkpoint() {
    let place = Place::new();
    let lines = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let evals: Vec<&Value> = lines
        .iter()
        .filter(|line| line.get("eval/val/loss").is_some())
        .collect();
    assert_eq!(evals.len(), 2, "one an epoch");
    let loss = |line: &Value| line["eval/val/loss"].as_f64().unwrap();
    // Chance among 16 pairs.
    assert!((1.0..16.0_f64.ln() + 2.0).contains(&loss(evals[0])));
    assert_eq!(
        evals[0]["eval/val/images"], 40,
        "two batches of 16 and one of 8"
    );
    assert!(
        evals[0]["eval/val/image_to_text_recall@10"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let wanted = if loss(evals[0]) <= loss(evals[1]) {
        "step-00000005"
    } else {
        "step-00000010"
    };
    let best = fs::read_to_string(place.path("run/best")).unwrap();
    assert_eq!(best.trim(), wanted);

    let output = place
        .couplet(&["eval", "compare"])
        .arg(place.path("run"))
        .output()
        .unwrap();
    assert!(
        output.status.success() && text(&output).contains("val/loss"),
        "{}",
        text(&output)
    );
    let output = place
        .couplet(&["eval", "compare"])
        .arg(place.path("cache"))
        .output()
        .unwrap();
    assert!(
        text(&output).contains("not a run's log"),
        "{}",
        text(&output)
    );
}

#[test]
fn zero_shot_tells_prompts_classes_and_confusions() {
    let place = Place::new();
    let details = place.path("details");
    let details_flag = details.to_str().unwrap();
    let (report, printed) = place.eval(
        "zero-shot",
        &["--compare-prompts", "--details", details_flag],
    );
    let report = &report[0];
    assert_eq!(report["protocol"], "zero-shot");
    assert_eq!(report["prompts"]["ensemble"]["top1"], report["top1"]);
    assert!(report["prompts"]["class name only"]["top1"].is_number());
    assert!(printed.contains("single template"), "{printed}");
    let table = fs::read_to_string(details.join("tiny-classes.csv")).unwrap();
    assert_eq!(table.lines().count(), 9, "a head and eight classes");
    let images: u32 = (table.lines().skip(1))
        .map(|line| line.split(',').nth(1).unwrap().parse::<u32>().unwrap())
        .sum();
    assert_eq!(images, 60);
    assert!(
        fs::read_to_string(details.join("tiny-confusion.svg"))
            .unwrap()
            .starts_with("<svg")
    );
    // Again, from kept features, and without any.
    let kept = fs::read_dir(place.path("cache/couplet")).unwrap().count();
    assert_eq!(kept, 3, "images, and their classes by template and by name");
    let (again, _) = place.eval("zero-shot", &[]);
    let (afresh, _) = place.eval("zero-shot", &["--no-cache"]);
    assert_eq!(again[0]["top1"], report["top1"]);
    assert_eq!(again, afresh);
}

#[test]
fn probes_are_fitted_and_kept() {
    let place = Place::new();
    let out = place.path("probe.safetensors");
    let (report, _) = place.eval(
        "linear-probe",
        &["-C", "1.0", "--out", out.to_str().unwrap()],
    );
    assert!((0.0..=1.0).contains(&report[0]["top1"].as_f64().unwrap()));
    assert_eq!(report[0]["c"], 1.0);
    assert!(out.is_file());
    let (report, printed) = place.eval("linear-probe", &[]);
    assert!(printed.contains("of the validation images"), "{printed}");
    assert!(report[0]["c"].as_f64().unwrap() > 0.0);
    let (report, _) = place.eval("knn", &["-k", "3"]);
    assert_eq!(report[0]["protocol"], "knn");
    let mut suite = place.couplet(&["eval", "suite"]);
    suite.arg(place.path("run")).arg(place.path("tiny.toml"));
    suite
        .args(["--also", "linear-probe,knn", "--csv"])
        .arg(place.path("suite.csv"));
    let output = suite.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let table = fs::read_to_string(place.path("suite.csv")).unwrap();
    assert!(
        table.contains("tiny,linear-probe,top1,") && table.contains("tiny,k-NN,top1,"),
        "{table}"
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let place = Place::new();
    let fails = |arguments: &[&str]| {
        let mut command = place.couplet(arguments);
        let output = command
            .arg("--model")
            .arg(place.path("run"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    };
    let dataset = place.path("tiny.toml");
    let dataset = dataset.to_str().unwrap();
    let said = fails(&["eval", "retrieval", "--dataset", dataset]);
    assert!(said.contains("has classes, not captions"), "{said}");
    fs::write(
        place.path("gone.toml"),
        "name = 'g'\nsource = 'idx'\npath = 'nowhere'\norigin = 'afar'\n",
    )
    .unwrap();
    let gone = place.path("gone.toml");
    let said = fails(&["eval", "zero-shot", "--dataset", gone.to_str().unwrap()]);
    assert!(
        said.contains("nowhere/t10k-images-idx3-ubyte") && said.contains("afar"),
        "{said}"
    );
}

#[test]
fn classes_of_a_text_tower_that_stays_as_it_is_are_embedded_once() {
    let place = Place::new();
    let eval = "[[eval]]\nkind = \"zero-shot\"\ndataset = \"tiny.toml\"\n";
    fs::write(place.path("lit.toml"), CONFIG.to_string() + eval).unwrap();
    let lit = [
        "train",
        "lit.toml",
        "--run-dir",
        "lit",
        "--set",
        "freeze.text=all",
    ];
    let within = |arguments: &[&str]| {
        let mut command = place.couplet(arguments);
        command.current_dir(place.folder.path());
        command
    };
    let output = within(&lit).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let kept: Vec<_> = fs::read_dir(place.path("lit/cache")).unwrap().collect();
    assert_eq!(kept.len(), 1, "two evaluations of one text tower");
    let lines = fs::read_to_string(place.path("lit/metrics.jsonl")).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let last = lines
        .filter_map(|line| line["eval/tiny/top1"].as_f64())
        .next_back();
    let checkpoint = "lit/checkpoints/step-00000010";
    let judge = [
        "eval",
        "zero-shot",
        "--model",
        checkpoint,
        "--dataset",
        "tiny.toml",
        "--json",
        "lit.json",
    ];
    let output = within(&judge).arg("--no-cache").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report = fs::read_to_string(place.path("lit.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report[0]["top1"].as_f64(), last);
}
