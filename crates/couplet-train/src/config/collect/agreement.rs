//! The schema and serde agree, whatever is wrong with a config.

use serde::Deserialize;
use toml::{Table, Value};

use super::super::schema::ConfigSchema;
use super::super::{RunConfig, edit};
use super::keys::join;
use super::{Known, collect, set_right};

/// Keys that no config of `configs/` has.
const MORE: &str = r#"
name = "more"
device = "flex"
precision = "bf16"
[model]
embed_dim = 32
activation = "gelu"
init_logit_scale = 2.6
init_logit_bias = -10
tokenizer = "tokenizer.json"
[model.preprocess]
mean = [0.5, 0.5, 0.5]
resize_mode = "squash"
fill_color = 127
[model.image]
kind = "modified-resnet"
image_size = 64
layers = [1, 1, 1, 1]
width = 8
heads = 4
[model.text]
context_length = 16
vocab_size = 100
width = 32
layers = 1
heads = 2
pool = { kind = "eos", id = 3 }
projection = "linear-bias"
[data]
threads = 2
[data.train]
source = "mix"
samples_per_epoch = 100
resample = true
[[data.train.mix]]
weight = 2
source = "csv"
path = "a.csv"
separator = ";"
[[data.train.mix]]
source = "class-folder"
path = "images"
templates = ["a {}"]
[data.train.augment]
horizontal_flip = 0.5
color_jitter = { brightness = 0.4, hue = 0.1 }
random_erasing = { probability = 0.1, fill = [1, 2, 3] }
[data.val]
source = "parquet"
files = ["a.parquet", "b.parquet"]
max_samples = 50
[batch]
global = 8
micro = 4
[loss]
kind = "sigmoid"
[optimizer]
kind = "lamb"
lr = 1
no_decay = ["*.bias"]
[[optimizer.group]]
params = ["visual.*"]
betas = [0.8, 0.9]
[schedule]
kind = "constant-cooldown"
length = "10 steps"
cooldown = "10 %"
power = 2
[freeze]
image = "all but last 1 block"
[ema]
decay = 0.5
[[eval]]
kind = "held-out"
every = "5 steps"
weights = "raw"
[[eval]]
kind = "retrieval"
dataset = "d.toml"
[checkpoint]
every = ["1 epoch", "10 minutes"]
keep = 2
[log]
every = "1 step"
tensorboard = false
"#;

/// Every config as it is in its file.
pub(super) fn configs_as_written() -> Vec<(String, Table)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|entry| {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text)
    });
    let all = files.chain([("more".to_string(), MORE.to_string())]);
    all.map(|(name, text)| (name, text.parse().unwrap()))
        .collect()
}

fn configs() -> Vec<(String, Table)> {
    let all = configs_as_written().into_iter();
    all.map(|(name, mut table)| {
        edit::default_source(&mut table);
        assert_eq!(edit::merge_preset(&mut table), None, "{name}");
        (name, table)
    })
    .collect()
}

/// The keys that are reported, once serde and the schema are seen to agree.
fn reported(name: &str, table: &Table) -> Vec<String> {
    let error = RunConfig::deserialize(Value::Table(table.clone())).err();
    let mut respelled_table = table.clone();
    let respelled = set_right(ConfigSchema::run(), &mut respelled_table, None);
    let (misspelt, renamed): (Vec<_>, Vec<_>) =
        (respelled.into_iter().map(|key| (key.issue, key.right))).unzip();
    let known = Known {
        renamed: &renamed,
        partial: None,
    };
    let collected = collect::<RunConfig>(respelled_table, ConfigSchema::run(), &known);
    let issues: Vec<_> = misspelt.into_iter().chain(collected.issues).collect();
    assert_eq!(
        error.is_some(),
        !issues.is_empty(),
        "{name}: serde: {error:?}, schema: {issues:?}"
    );
    assert!(
        collected.value.is_some(),
        "{name}: {issues:?} cannot be set aside"
    );
    issues.into_iter().map(|issue| issue.key).collect()
}

/// Every value with its path, tables and lists before what is in them.
pub(super) fn paths(value: &Value, path: &str, out: &mut Vec<String>) {
    if !path.is_empty() {
        out.push(path.to_string());
    }
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                paths(value, &join(path, name), out);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                paths(value, &format!("{path}[{at}]"), out);
            }
        }
        _ => {}
    }
}

/// The table or list that holds the value at a path, and the value's name in it.
pub(super) fn parent<'a>(table: &'a mut Table, path: &str) -> (&'a mut Value, String) {
    let path = path.replace('[', ".").replace(']', "");
    let mut steps: Vec<&str> = path.split('.').collect();
    let last = steps.pop().unwrap();
    let Some((first, rest)) = steps.split_first() else {
        panic!("keys of the root have no parent");
    };
    let mut at = table.get_mut(*first).unwrap();
    for step in rest {
        at = match at {
            Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
            other => other.get_mut(*step).unwrap(),
        };
    }
    (at, last.to_string())
}

fn with_parent(table: &Table, path: &str, change: impl FnOnce(&mut Value, &str)) -> Table {
    // The root is put into a table, so that its keys have a parent too.
    let mut outer = Table::from_iter([("root".to_string(), Value::Table(table.clone()))]);
    let (parent, name) = parent(&mut outer, &format!("root.{path}"));
    change(parent, &name);
    match outer.remove("root") {
        Some(Value::Table(table)) => table,
        _ => panic!("the root is a table"),
    }
}

#[test]
fn sound_configs_have_no_mistakes() {
    for (name, table) in configs() {
        assert_eq!(reported(&name, &table), [""; 0], "{name}");
    }
}

#[test]
fn a_value_of_a_wrong_type_is_reported_at_its_key() {
    for (name, table) in configs() {
        let mut all = Vec::new();
        paths(&Value::Table(table.clone()), "", &mut all);
        for path in all {
            let list = Value::Array(vec![Value::Boolean(true)]);
            let wrong = [Value::Boolean(true), list.clone(), Value::Array(vec![list])];
            for wrong in wrong {
                let text = wrong.to_string();
                let changed = with_parent(&table, &path, |parent, name| match parent {
                    Value::Array(items) => items[name.parse::<usize>().unwrap()] = wrong,
                    parent => {
                        parent.as_table_mut().unwrap().insert(name.into(), wrong);
                    }
                });
                let keys = reported(&format!("{name}: {path} = {text}"), &changed);
                // A list of wrong values is reported at each.
                let is_there = |key: &String| *key == path || *key == format!("{path}[0]");
                assert!(
                    keys.len() <= 1 && keys.iter().all(is_there),
                    "{name}: {path} = {text}: {keys:?}"
                );
            }
        }
    }
}

#[test]
fn a_key_of_another_name_is_reported_and_so_is_one_that_is_missing() {
    for (name, table) in configs() {
        let mut all = Vec::new();
        paths(&Value::Table(table.clone()), "", &mut all);
        for path in all.iter().filter(|path| !path.ends_with(']')) {
            let without = with_parent(&table, path, |parent, name| {
                parent.as_table_mut().unwrap().remove(name);
            });
            let keys = reported(&format!("{name}: without {path}"), &without);
            let all_missing = keys.iter().all(|key| key == path);
            assert!(
                keys.len() <= 1 && all_missing,
                "{name}: without {path}: {keys:?}"
            );

            let far = with_parent(&table, path, |parent, name| {
                let parent = parent.as_table_mut().unwrap();
                let value = parent.remove(name).unwrap();
                parent.insert("qqqqqqqqqqqqqqqq".into(), value);
            });
            let keys = reported(&format!("{name}: {path} renamed"), &far);
            let (table_path, _) = path.rsplit_once('.').unwrap_or(("", path));
            let renamed = join(table_path, "qqqqqqqqqqqqqqqq");
            let is_there = |key: &String| *key == renamed || key == path;
            assert!(
                keys.contains(&renamed) && keys.iter().all(is_there),
                "{name}: {path} renamed: {keys:?}"
            );

            let near = with_parent(&table, path, |parent, name| {
                let parent = parent.as_table_mut().unwrap();
                let value = parent.remove(name).unwrap();
                parent.insert(format!("{name}x"), value);
            });
            let keys = reported(&format!("{name}: {path} misspelt"), &near);
            assert_eq!(keys, [format!("{path}x")], "{name}: {path} misspelt");
        }
    }
}

#[test]
fn an_unknown_word_is_reported_at_its_key_alone() {
    for (name, table) in configs() {
        let mut all = Vec::new();
        paths(&Value::Table(table.clone()), "", &mut all);
        let is_tag = |path: &&String| {
            let name = path.rsplit_once('.').map(|(_, name)| name);
            matches!(name, Some("kind" | "source"))
        };
        let tags = all.iter().filter(is_tag);
        for path in tags {
            for spoil in [
                |_: &str| "qqqqqqqq".to_string(),
                |word: &str| format!("{word}x"),
            ] {
                let changed = with_parent(&table, path, |parent, name| {
                    let parent = parent.as_table_mut().unwrap();
                    let word = spoil(parent[name].as_str().unwrap());
                    parent.insert(name.into(), word.into());
                });
                let keys = reported(&format!("{name}: {path}"), &changed);
                assert_eq!(keys, [path.as_str()], "{name}: {path}");
            }
        }
    }
}
