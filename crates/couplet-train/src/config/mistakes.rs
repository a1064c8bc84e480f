//! Every mistake of a config is reported, and none is invented.

use toml::Table;

use super::ConfigError;
use super::tests::{SOUND, problems, read};

fn keys_of(text: &str, set: &[&str]) -> Vec<String> {
    let found = problems(text, set).into_iter();
    let mut keys: Vec<String> = found.map(|(key, _)| key).collect();
    keys.sort();
    keys
}

#[test]
fn a_misspelt_source_hides_nothing_and_invents_nothing() {
    let text = SOUND
        .replace("source = \"shapes\"", "source = \"webdatset\"")
        .replace("samples = 64", "shards = \"nowhere.tar\"\nstream = 3")
        .replace("lr = 1e-3", "lr = \"fast\"")
        .replace("length = \"2 epochs\"", "warmup = \"2 moons\"");
    let found = problems(&text, &["log.every=30 %", "data.train.resample=often"]);
    let mut keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "data.train.resample",
            "data.train.shards",
            "data.train.source",
            "data.train.stream",
            "log.every",
            "optimizer.lr",
            "schedule.length",
            "schedule.warmup",
        ],
        "{found:?}"
    );
    let source = found.iter().find(|(key, _)| key == "data.train.source");
    let message = &source.unwrap().1;
    assert!(message.contains("did you mean `webdataset`?"), "{message}");
}

#[test]
fn a_source_like_no_other_leaves_the_keys_of_all() {
    let text = SOUND.replace("source = \"shapes\"", "source = \"tarballs\"");
    assert_eq!(keys_of(&text, &[]), ["data.train.source"]);
    let text = text.replace("samples = 64", "shards = \"a.tar\"\npath = 3\nsmples = 1");
    assert_eq!(
        keys_of(&text, &[]),
        ["data.train.path", "data.train.smples", "data.train.source"]
    );
}

#[test]
fn what_a_misspelt_table_holds_is_read() {
    let text = SOUND.replace("[model]\npreset", "[modl]\nprest");
    assert_eq!(keys_of(&text, &[]), ["model.prest", "modl"]);
    let text = SOUND
        .replace("[schedule]", "[schedul]")
        .replace("2 epochs", "2 %");
    assert_eq!(keys_of(&text, &[]), ["schedul", "schedule.length"]);
}

#[test]
fn the_nearest_word_is_named() {
    let suggestion = |set: &[&str], word: &str| {
        let found = problems(SOUND, set);
        let wanted = format!("did you mean `{word}`?");
        assert!(
            found.len() == 1 && found[0].1.contains(&wanted),
            "{found:?}"
        );
    };
    suggestion(&["optimizer.weight_deccay=0.1"], "weight_decay");
    suggestion(&["precision=bf61"], "bf16");
    suggestion(&["device=cpuu"], "cpu");
    suggestion(&["model.preset=ViT-Ti-8-33"], "ViT-Ti-8-32");
    suggestion(&["checkpont.keep=2"], "checkpoint");
    let val = "data.val={ source = 'shapes', samples = 64 }";
    let best = "checkpoint.best=eval/val/image_to_text_recal@1";
    suggestion(&[val, best], "eval/val/image_to_text_recall@1");
}

/// A config with most tables, all of whose values are sound.
const LONG: &str = r#"
name = "long"
seed = 3
device = "flex"
precision = "f32"
[model]
preset = "ViT-Ti-8-32"
[model.image]
image_size = 32
[model.text]
heads = 2
[data]
max_skipped = 0.1
[data.train]
source = "shapes"
samples = 64
samples_per_epoch = 32
[data.train.augment]
horizontal_flip = 0.5
[data.val]
source = "shapes"
samples = 64
max_samples = 20
[batch]
global = 16
micro = 8
[loss]
kind = "softmax"
label_smoothing = 0.1
[optimizer]
kind = "lamb"
lr = 1e-3
betas = [0.9, 0.95]
eps = 1e-6
no_decay = ["visual.proj"]
[[optimizer.group]]
params = ["visual.*"]
lr_scale = 0.1
[schedule]
kind = "rsqrt"
length = "9 epochs"
warmup = "3 steps"
cooldown = "2 steps"
timescale = "5 steps"
[freeze]
image = "all but last 2 blocks"
[ema]
decay = 0.9
[[eval]]
kind = "held-out"
every = "2 epochs"
weights = "ema"
[checkpoint]
every = ["1 epoch", "10 minutes"]
keep = 2
best = "eval/val/text_to_image_recall@5"
[log]
every = "3 steps"
"#;

/// The path of every value that is in no list.
fn leaves(table: &Table, path: &str, out: &mut Vec<String>) {
    for (name, value) in table {
        let path = format!("{path}{name}");
        match value {
            toml::Value::Table(table) => leaves(table, &format!("{path}."), out),
            _ => out.push(path),
        }
    }
}

fn long_leaves() -> Vec<String> {
    let mut all = Vec::new();
    leaves(&LONG.parse().unwrap(), "", &mut all);
    all
}

#[test]
fn one_wrong_value_is_one_mistake() {
    assert!(read(LONG, &[]).is_ok(), "{:?}", read(LONG, &[]));
    // Another source takes the keys of the first with it.
    for path in long_leaves()
        .iter()
        .filter(|path| *path != "data.train.source")
    {
        for wrong in ["[[true]]", "{ qqqq = 1 }"] {
            let found = problems(LONG, &[&format!("{path}={wrong}")]);
            assert!(
                found.len() == 1 && found[0].0.starts_with(path),
                "{path} = {wrong}: {found:?}"
            );
        }
    }
}

#[test]
fn one_missing_key_is_one_mistake() {
    let mut required = Vec::new();
    // Another source takes the keys of the first with it; without a preset, all that it has is missed.
    let others = ["data.train.source", "model.preset"];
    for path in long_leaves() {
        if others.contains(&path.as_str()) {
            continue;
        }
        match read(LONG, &[&format!("{path}=")]) {
            Ok(_) => {}
            Err(ConfigError::Problems { problems, .. }) => {
                assert!(problems.len() == 1, "{path}: {problems:?}");
                assert_eq!(problems[0].key, path, "{problems:?}");
                required.push(path);
            }
            Err(other) => panic!("{path}: {other}"),
        }
    }
    assert_eq!(
        required,
        [
            "name",
            "data.val.source",
            "batch.global",
            "loss.kind",
            "optimizer.kind",
            "optimizer.lr",
            "schedule.kind",
            "schedule.length",
            "ema.decay",
        ]
    );
}

#[test]
fn one_value_out_of_range_is_one_mistake() {
    for (key, value) in [
        ("seed", "-1"),
        ("model.image.image_size", "0"),
        ("model.text.width", "-3"),
        ("data.max_skipped", "1.5"),
        ("data.threads", "1025"),
        ("data.train.samples", "0"),
        ("data.train.samples_per_epoch", "-1"),
        ("data.train.augment.horizontal_flip", "2"),
        ("batch.global", "0"),
        ("batch.micro", "0"),
        ("batch.parts", "0"),
        ("loss.label_smoothing", "1.0"),
        ("optimizer.lr", "-1e-3"),
        ("optimizer.betas", "[0.9]"),
        ("optimizer.betas", "[0.9, 1.0]"),
        ("schedule.length", "'2 moons'"),
        ("ema.decay", "1.0"),
        ("checkpoint.keep", "0"),
        ("eval.0.every", "'3 %'"),
    ] {
        let found = problems(LONG, &[&format!("{key}={value}")]);
        let key = key.replace(".0.", "[0].");
        assert!(
            found.len() == 1 && found[0].0 == key,
            "{key} = {value}: {found:?}"
        );
    }
}

#[test]
fn what_needs_no_data_is_checked_though_the_data_is_wrong() {
    let set = [
        "data.train.samples=0",
        "schedule.warmup=120 %",
        "checkpoint.best=eval/nothing/top1",
    ];
    let keys = ["checkpoint.best", "data.train.samples", "schedule.warmup"];
    assert_eq!(keys_of(SOUND, &set), keys);
    let set = [
        "data.train.samples=0",
        "schedule.warmup=60 %",
        "schedule.cooldown=50 %",
    ];
    let constant = SOUND.replace("kind = \"cosine\"", "kind = \"constant-cooldown\"");
    assert_eq!(
        keys_of(&constant, &set),
        ["data.train.samples", "schedule.cooldown"]
    );
}
