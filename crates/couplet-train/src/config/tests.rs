use std::path::Path;

use couplet_data::loader::LoaderState;
use toml::Table;

use super::*;

pub(super) const SOUND: &str = r#"
name = "t"

[model]
preset = "ViT-Ti-8-32"

[data.train]
source = "shapes"
samples = 64

[batch]
global = 16

[optimizer]
kind = "adamw"
lr = 1e-3

[schedule]
kind = "cosine"
length = "2 epochs"
"#;

pub(super) fn read(text: &str, set: &[&str]) -> Result<ResolvedRun, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    ResolvedRun::open(&path, &set, DeviceCheck::Local)
}

pub(super) fn problems(text: &str, set: &[&str]) -> Vec<(String, String)> {
    match read(text, set) {
        Err(ConfigError::Problems { problems, .. }) => {
            problems.iter().map(|p| (p.key.clone(), p.text())).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_resolved_config_reads_back_the_same() {
    let config = read(SOUND, &[]).unwrap().config;
    let again = read(&config.to_toml(), &[]).unwrap().config;
    assert_eq!(config, again);
}

#[test]
fn set_reaches_every_kind_of_key() {
    let config = read(
        SOUND,
        &[
            "schedule.length=120 steps",
            "model.text.context_length=16",
            "data.train.augment.random_resized_crop={ scale = [0.5, 1.0] }",
            "name=other",
            "optimizer.betas=[0.9, 0.95]",
        ],
    )
    .unwrap()
    .config;
    assert_eq!(config.schedule.length().to_string(), "120 steps");
    assert_eq!(config.model.text.context_length, 16);
    assert_eq!(config.name, "other");
    assert!(config.data.train.augment.random_resized_crop.is_some());
}

#[test]
fn eight_mistakes_are_listed_together() {
    let found = problems(
        SOUND,
        &[
            "model.image.heads=5",
            "batch.global=65",
            "optimizer.lr=fast",
            "optimizer.momentum=0.9",
            "schedule.length=0 epochs",
            "data.max_skipped=2.0",
            "checkpoint.best=eval/x/top1",
            "eval=[{ kind = 'zero-shot', dataset = 'nowhere.toml' }]",
            "data.train.sample=3",
        ],
    );
    let mut keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "batch.global",
            "data.max_skipped",
            "data.train.sample",
            "eval[0].dataset",
            "model.image.heads",
            "optimizer.lr",
            "optimizer.momentum",
            "schedule.length",
        ],
        "{found:?}"
    );
}

#[test]
fn batches_and_lengths_are_held_against_the_data() {
    let keys = |set: &[&str]| -> Vec<String> {
        problems(SOUND, set)
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    };
    assert_eq!(keys(&["batch.global=65"]), ["batch.global"]);
    assert_eq!(keys(&["batch.micro=5"]), ["batch.micro"]);
    assert_eq!(keys(&["batch.micro=0"]), ["batch.micro"]);
    assert_eq!(keys(&["batch.parts=3"]), ["batch.parts"]);
    assert_eq!(keys(&["batch.parts=0"]), ["batch.parts"]);
    assert_eq!(
        keys(&[
            "schedule.kind=constant-cooldown",
            "schedule.warmup=5 steps",
            "schedule.cooldown=4 steps"
        ]),
        ["schedule.cooldown"]
    );
    assert_eq!(keys(&["schedule.warmup=9 steps"]), ["schedule.warmup"]);
    assert_eq!(keys(&["checkpoint.best=eval/x/top1"]), ["checkpoint.best"]);
    assert_eq!(keys(&["schedule.length=3 %"]), ["schedule.length"]);
}

#[test]
fn an_unknown_preset_lists_the_known_ones() {
    let found = problems(SOUND, &["model.preset=resnext", "optimizer.eps=-1.0"]);
    assert_eq!(found[0].0, "model.preset");
    assert!(found[0].1.contains("ViT-B-32-quickgelu"), "{found:?}");
    assert_eq!(found[1].0, "optimizer.eps");
}

#[test]
fn a_backend_that_is_not_built_in_is_refused() {
    if !cfg!(feature = "cuda") {
        let found = problems(SOUND, &["device=cuda:1"]);
        assert!(found[0].1.contains("--features cuda"), "{found:?}");
    }
}

#[test]
fn every_committed_config_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for entry in std::fs::read_dir(root.join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut table: Table = text.parse().unwrap();
        edit::default_source(&mut table);
        assert_eq!(edit::merge_preset(&mut table), None, "{}", path.display());
        let known = collect::Known::default();
        let collected = collect::collect::<RunConfig>(table, schema::ConfigSchema::run(), &known);
        assert_eq!(collected.issues, [], "{}", path.display());
    }
}

#[test]
fn another_source_leaves_the_keys_of_the_first_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(
        &path,
        "filepath,title\n".to_string() + &"a.png,b\n".repeat(20),
    )
    .unwrap();
    let set = format!("data.train.path={}", path.display());
    let checked = read(SOUND, &[&set, "data.train.source=csv"]).unwrap();
    assert_eq!(checked.data.epoch_len, 20);
}

#[test]
fn a_set_without_a_value_takes_the_key_away() {
    let set = [
        "optimizer.eps=1e-6",
        "optimizer.kind=lion",
        "optimizer.eps=",
    ];
    assert!(read(SOUND, &set).is_ok());
    assert!(read(SOUND, &set[..2]).is_err());
}

#[test]
fn data_is_read_whatever_else_is_wrong_with_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.toml");
    let open = |text: &str, set: &[String]| {
        std::fs::write(&path, text).unwrap();
        ResolvedData::read(&path, set)
    };
    let data = "[data.train]\nsource = 'shapes'\nsamples = 30\n";
    let alone = open(data, &[]).unwrap();
    assert_eq!((alone.epoch_len, alone.batch_size), (30, 30));
    assert_eq!(alone.spec.image.image_size(), 224);
    assert_eq!(alone.parts(&LoaderState::default()), 2);
    assert_eq!(alone.parts(&LoaderState::start_of(1, 5)), 5);
    let more = "[batch]\nglobal = 8\n[optimizer]\nkind = 'none'\n[schedule]\nlength = 3\n";
    assert_eq!(open(&format!("{data}{more}"), &[]).unwrap().batch_size, 8);
    let parts = open(&format!("{data}[batch]\nglobal = 12\nparts = 6\n"), &[]).unwrap();
    assert_eq!(parts.parts(&LoaderState::default()), 6);
    let error = open(data, &["data.train.sampels=3".into()]).err().unwrap();
    assert!(error.to_string().contains("data.train.sampels"), "{error}");
}

#[test]
fn every_part_of_a_long_config_reads_back_the_same() {
    let more = r#"
precision = "bf16"
[batch]
micro = 4
logit_rows = 8
[optimizer]
kind = "lamb"
layer_decay = 0.75
[[optimizer.group]]
params = ["visual.*"]
lr_scale = 0.1
[schedule]
kind = "rsqrt"
warmup = "1 step"
cooldown = "10 %"
[freeze]
image = "all but last 2 blocks"
[ema]
decay = 0.99
"#;
    let mut table: toml::Table = SOUND.parse().unwrap();
    let more: toml::Table = more.parse().unwrap();
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
    let config = read(&table.to_string(), &[]).unwrap().config;
    let again = read(&config.to_toml(), &[]).unwrap().config;
    assert_eq!(config, again);
}

#[test]
fn what_cannot_be_trained_is_named() {
    let keys = |set: &[&str]| -> Vec<String> {
        problems(SOUND, set)
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    };
    assert_eq!(
        keys(&["freeze.image=all but last 9 blocks"]),
        ["freeze.image"]
    );
    assert_eq!(
        keys(&["freeze.image=all", "freeze.text=all"]),
        ["freeze.text"]
    );
    assert_eq!(keys(&["freeze.image=most"]), ["freeze.image"]);
    assert_eq!(keys(&["ema.decay=1.0"]), ["ema.decay"]);
    assert_eq!(
        keys(&["optimizer.no_decay=['visual.*', 'visul.*']"]),
        ["optimizer.no_decay[1]"]
    );
    assert_eq!(
        keys(&["optimizer.group=[{ params = ['nothing'] }]"]),
        ["optimizer.group[0].params[0]"]
    );
    assert_eq!(
        keys(&["optimizer.layer_decay=0"]),
        ["optimizer.layer_decay"]
    );
    assert_eq!(
        keys(&["loss.kind=softmax", "loss.label_smoothing=1.5"]),
        ["loss.label_smoothing"]
    );
    assert_eq!(
        keys(&["optimizer.kind=lion", "optimizer.eps=1e-8"]),
        ["optimizer.eps"]
    );
    assert_eq!(
        keys(&[
            r#"eval=[{ kind = "zero-shot", dataset = "../../datasets/shapes.toml", weights = "ema" }]"#
        ]),
        ["eval[0].weights"]
    );
}

#[test]
fn nccl_is_refused_where_it_cannot_be_used() {
    let found = problems(SOUND, &["device=cpu", "ranks.data=nccl"]);
    assert_eq!(found.len(), 1, "{found:?}");
    let (key, message) = &found[0];
    assert_eq!(key, "ranks.data");
    let why = if cfg!(feature = "nccl") {
        "the device is cpu"
    } else {
        "built without it"
    };
    assert!(message.contains(why), "{message}");
    assert!(message.contains("\"auto\" or \"host\""), "{message}");
    for data in ["auto", "host"] {
        let data = format!("ranks.data={data}");
        let found = problems(SOUND, &["device=cpu", &data, "ema.decay=1.0"]);
        assert!(found.iter().all(|(key, _)| key == "ema.decay"), "{found:?}");
    }
    assert_eq!(problems(SOUND, &["ranks.data=mpi"])[0].0, "ranks.data");
}
