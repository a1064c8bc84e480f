//! `couplet eval` on a tiny model.

use std::fs;

use serde_json::Value;

use crate::workspace::{Workspace, fail, succeed, text};

pub const CONFIG: &str = r#"
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
pub fn trained() -> Workspace {
    let workspace = Workspace::with(&[("config.toml", CONFIG), ("tiny.toml", DATASET)]);
    succeed(workspace.couplet(&["train", "config.toml", "--run-dir", "run"]));
    workspace
}

/// An evaluation's report as JSON, and its output.
fn eval(workspace: &Workspace, protocol: &str, more: &[&str]) -> (Value, String) {
    let of_run = ["--model", "run", "--dataset", "tiny.toml"];
    let mut command = workspace.couplet(&["eval", protocol]);
    command.args(of_run).args(["--json", "report.json"]);
    let printed = succeed(command.args(more));
    (workspace.json("report.json"), printed)
}

#[test]
fn held_out_pairs_are_evaluated_and_select_the_best_checkpoint() {
    let workspace = trained();
    let lines = workspace.metrics("run");
    let evals: Vec<&Value> = lines
        .iter()
        .filter(|line| line.get("eval/val/loss").is_some())
        .collect();
    assert_eq!(evals.len(), 2, "one an epoch");
    let loss = |line: &Value| line["eval/val/loss"].as_f64().unwrap();
    // The loss of chance among 16 pairs.
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
    assert_eq!(workspace.read("run/best").trim(), wanted);

    let compare = |more: &[&str]| {
        let mut command = workspace.couplet(&["eval", "compare", "run", "--json", "compared.json"]);
        (
            succeed(command.args(more)),
            workspace.json("compared.json")[0].clone(),
        )
    };
    let (printed, compared) = compare(&[]);
    let best = loss(evals[0]).min(loss(evals[1]));
    assert_eq!(
        compared["metrics"]["val/loss"]["value"].as_f64(),
        Some(best)
    );
    assert_eq!(compared["checkpoint"], "best");
    let step: u64 = wanted["step-".len()..].parse().unwrap();
    let opens = format!(" at step {step}\n");
    let first = printed.split_inclusive('\n').next().unwrap();
    assert!(
        first.contains("best by eval/val/loss") && first.ends_with(&opens),
        "{printed}"
    );
    let (printed, compared) = compare(&["--last"]);
    assert_eq!(
        compared["metrics"]["val/loss"]["value"].as_f64(),
        Some(loss(evals[1]))
    );
    let row = printed
        .lines()
        .skip(1)
        .skip_while(|line| !line.contains("val/loss"))
        .nth(1);
    assert!(
        row.unwrap().ends_with(" 10") && !printed.contains("  best "),
        "{printed}"
    );
    let output = workspace.couplet(&["eval", "compare", "cache"]).output();
    let printed = text(&output.unwrap());
    assert!(printed.contains("not a run's folder"), "{printed}");
}

#[test]
fn zero_shot_reports_prompts_classes_and_confusions() {
    let workspace = trained();
    let more = ["--compare-prompts", "--details", "details"];
    let (report, printed) = eval(&workspace, "zero-shot", &more);
    let report = &report[0];
    assert_eq!(report["protocol"], "zero-shot");
    assert_eq!(report["prompts"]["ensemble"]["top1"], report["top1"]);
    assert!(report["prompts"]["class name only"]["top1"].is_number());
    assert!(printed.contains("single template"), "{printed}");
    let table = workspace.read("details/tiny-classes.csv");
    assert_eq!(table.lines().count(), 9, "a head and eight classes");
    let images: u32 = (table.lines().skip(1))
        .map(|line| line.split(',').nth(1).unwrap().parse::<u32>().unwrap())
        .sum();
    assert_eq!(images, 60);
    assert!(
        workspace
            .read("details/tiny-confusion.svg")
            .starts_with("<svg")
    );
    let png = image::open(workspace.path("details/tiny-confusion.png")).unwrap();
    assert!(png.width() > 200 && png.height() > 200);
    // Again, with cached features and without.
    let kept = fs::read_dir(workspace.path("cache/couplet"))
        .unwrap()
        .count();
    assert_eq!(kept, 3, "images, and their classes by template and by name");
    let (again, _) = eval(&workspace, "zero-shot", &[]);
    let (afresh, _) = eval(&workspace, "zero-shot", &["--no-cache"]);
    assert_eq!(again[0]["top1"], report["top1"]);
    assert_eq!(again, afresh);
    let weights = report["model"].as_str().unwrap();
    let checkpoint = workspace.read("run/best");
    assert!(weights.contains(checkpoint.trim()), "{weights}");
    assert!(
        printed.contains(&format!("evaluating {weights} (best by eval/val/loss, ")),
        "{printed}"
    );
    assert!(printed.contains("tiny: 60 images of ") && report["dataset_path"].is_string());

    // Halves of every file swapped: computed again, and sound afterwards.
    for file in fs::read_dir(workspace.path("cache/couplet")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let header =
            8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let half = (bytes.len() - header) / 2;
        bytes[header..].rotate_left(half);
        fs::write(&path, bytes).unwrap();
    }
    let (damaged, printed) = eval(&workspace, "zero-shot", &[]);
    assert_eq!(damaged, afresh);
    assert_eq!(printed.matches("computed again").count(), 2, "{printed}");
    let (_, printed) = eval(&workspace, "zero-shot", &[]);
    assert!(!printed.contains("computed again"), "{printed}");
}

#[test]
fn probes_are_fitted_and_kept() {
    let workspace = trained();
    let more = ["-C", "1.0", "--out", "probe.safetensors"];
    let (report, _) = eval(&workspace, "linear-probe", &more);
    assert!((0.0..=1.0).contains(&report[0]["top1"].as_f64().unwrap()));
    assert_eq!(report[0]["c"], 1.0);
    assert!(workspace.path("probe.safetensors").is_file());
    let (report, printed) = eval(&workspace, "linear-probe", &[]);
    assert!(printed.contains("on the validation images"), "{printed}");
    assert!(report[0]["c"].as_f64().unwrap() > 0.0);
    let (report, _) = eval(&workspace, "knn", &["-k", "3"]);
    assert_eq!(report[0]["protocol"], "knn");
    let (_, printed) = eval(&workspace, "knn", &["-k", "999"]);
    assert!(
        printed.contains("k is 999, but there are only 60 training images"),
        "{printed}"
    );
    let mut suite = workspace.couplet(&["eval", "suite", "run", "tiny.toml"]);
    succeed(suite.args(["--also", "linear-probe,knn", "--csv", "suite.csv"]));
    let table = workspace.read("suite.csv");
    assert!(
        table.contains("tiny,linear-probe,top1,") && table.contains("tiny,k-NN,top1,"),
        "{table}"
    );
}

#[test]
fn unsuitable_datasets_and_models_are_rejected() {
    let workspace = trained();
    let fails = |protocol: &str, dataset: &str| {
        let mut command = workspace.couplet(&["eval", protocol, "--dataset", dataset]);
        fail(command.args(["--model", "run"]), 1)
    };
    let printed = fails("retrieval", "tiny.toml");
    assert!(printed.contains("has classes but no captions"), "{printed}");
    fs::write(
        workspace.path("gone.toml"),
        "name = 'g'\nsource = 'idx'\npath = 'nowhere'\norigin = 'afar'\n",
    )
    .unwrap();
    let printed = fails("zero-shot", "gone.toml");
    assert!(
        printed.contains("looked for nowhere and data/nowhere") && printed.contains("afar"),
        "{printed}"
    );
}

#[test]
fn a_frozen_text_tower_embeds_its_classes_once() {
    let workspace = trained();
    let eval = "[[eval]]\nkind = \"zero-shot\"\ndataset = \"tiny.toml\"\n";
    fs::write(workspace.path("lit.toml"), CONFIG.to_string() + eval).unwrap();
    let lit = [
        "train",
        "lit.toml",
        "--run-dir",
        "lit",
        "--set",
        "freeze.text=all",
    ];
    succeed(workspace.couplet(&lit));
    let kept: Vec<_> = fs::read_dir(workspace.path("lit/cache")).unwrap().collect();
    assert_eq!(kept.len(), 1, "two evaluations of one text tower");
    let metrics = workspace.metrics("lit");
    let top1 = |line: &Value| line["eval/tiny/top1"].as_f64();
    let last = metrics.iter().filter_map(top1).next_back();
    let checkpoint = "lit/checkpoints/step-00000010";
    let evaluate = [
        "eval",
        "zero-shot",
        "--model",
        checkpoint,
        "--dataset",
        "tiny.toml",
        "--json",
        "lit.json",
        "--no-cache",
    ];
    succeed(workspace.couplet(&evaluate));
    assert_eq!(workspace.json("lit.json")[0]["top1"].as_f64(), last);
}

#[test]
fn a_dataset_of_one_class_and_one_without_images_are_rejected() {
    let workspace = trained();
    let save = |file: &str| {
        let path = workspace.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(20, 20).save(path).unwrap();
    };
    save("one/cat/1.png");
    save("two/cat/1.png");
    save("two/dog/1.png");
    fs::create_dir_all(workspace.path("none/cat")).unwrap();
    let table = "name = 't'\nsource = 'class-folder'\npath = 'two'\ntrain_path = 'two'\n";
    fs::write(workspace.path("two.toml"), table).unwrap();
    let command = |protocol: &str, dataset: &str| {
        let mut command = workspace.couplet(&["eval", protocol, "--dataset", dataset]);
        command.args(["--model", "run"]);
        command
    };
    let printed = fail(command("zero-shot", "one"), 1);
    assert!(printed.contains("only one class, `cat`"), "{printed}");
    let printed = fail(command("zero-shot", "none"), 1);
    assert!(printed.contains("no images"), "{printed}");
    // One image a class is little, but a dataset.
    succeed(command("zero-shot", "two"));
    succeed(command("knn", "two.toml"));
    succeed(command("linear-probe", "two.toml").args(["-C", "1"]));
    let printed = fail(command("linear-probe", "two.toml"), 1);
    assert!(
        printed.contains("2 training images are too few to choose C"),
        "{printed}"
    );
}
