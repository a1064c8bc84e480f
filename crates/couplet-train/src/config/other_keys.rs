//! Keys that other libraries have for ours: they are reported with the line to write.

use toml::{Table, Value};

use super::collect::{Respelled, join};
use super::issue::ConfigIssue;

/// How the value of a key of another library is written here.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Same,
    Steps,
    Epochs,
    /// There is no one key for it.
    Advice,
}

/// Keys that are called otherwise here: the table, the key in it, what it is here, and how it is written.
const KEYS: &[(&str, &str, &str, Form)] = &[
    ("", "epochs", "schedule.length", Form::Epochs),
    ("", "batch_size", "batch.global", Form::Same),
    ("", "learning_rate", "optimizer.lr", Form::Same),
    ("", "wd", "optimizer.weight_decay", Form::Same),
    ("", "warmup", "schedule.warmup", Form::Steps),
    ("", "warmup_steps", "schedule.warmup", Form::Steps),
    ("", "workers", "data.threads", Form::Same),
    ("", "num_workers", "data.threads", Form::Same),
    (
        "",
        "train_num_samples",
        "data.train.samples_per_epoch",
        Form::Same,
    ),
    ("", "dataset_type", "data.train.source", Form::Same),
    ("", "pretrained", "model.weights", Form::Same),
    (
        "",
        "grad_checkpointing",
        "batch.recompute_blocks",
        Form::Same,
    ),
    ("", "lr_scheduler", "schedule.kind", Form::Same),
    ("", "opt", "optimizer.kind", Form::Same),
    ("", "save_frequency", "checkpoint.every", Form::Epochs),
    ("", "log_every_n_steps", "log.every", Form::Steps),
    ("", "force_image_size", "model.image.image_size", Form::Same),
    (
        "",
        "train_data",
        "name the data in [data.train], with a `source` and its keys",
        Form::Advice,
    ),
    (
        "",
        "val_data",
        "name the data in [data.val], with a `source` and its keys",
        Form::Advice,
    ),
    (
        "",
        "accum_freq",
        "divide `global` of [batch] by it for `micro`: `global` is the whole batch",
        Form::Advice,
    ),
    (
        "",
        "val_frequency",
        "set `every` of the [[eval]] table",
        Form::Advice,
    ),
    (
        "",
        "zeroshot_frequency",
        "set `every` of the [[eval]] table",
        Form::Advice,
    ),
    (
        "",
        "logs",
        "name the run's folder on the command line, with `--run-dir`",
        Form::Advice,
    ),
    (
        "",
        "lock_image",
        "write `image = \"all\"` in [freeze]",
        Form::Advice,
    ),
    (
        "",
        "lock_text",
        "write `text = \"all\"` in [freeze]",
        Form::Advice,
    ),
    (
        "",
        "siglip",
        "write `kind = \"sigmoid\"` in [loss]",
        Form::Advice,
    ),
    (
        "",
        "beta1",
        "write `betas = [0.9, 0.98]` in [optimizer]",
        Form::Advice,
    ),
    (
        "",
        "beta2",
        "write `betas = [0.9, 0.98]` in [optimizer]",
        Form::Advice,
    ),
    (
        "",
        "local_loss",
        "remove it: the loss is that of the whole batch",
        Form::Advice,
    ),
    (
        "",
        "gather_with_grad",
        "remove it: the loss has the gradients of the whole batch",
        Form::Advice,
    ),
    ("batch", "size", "batch.global", Form::Same),
    ("batch", "batch_size", "batch.global", Form::Same),
    ("batch", "global_batch_size", "batch.global", Form::Same),
    ("batch", "micro_batch", "batch.micro", Form::Same),
    ("batch", "micro_batch_size", "batch.micro", Form::Same),
    ("model", "name", "model.preset", Form::Same),
    ("model", "arch", "model.preset", Form::Same),
    ("model", "pretrained", "model.weights", Form::Same),
    ("model", "checkpoint", "model.weights", Form::Same),
    ("optimizer", "name", "optimizer.kind", Form::Same),
    ("optimizer", "type", "optimizer.kind", Form::Same),
    ("optimizer", "learning_rate", "optimizer.lr", Form::Same),
    ("optimizer", "wd", "optimizer.weight_decay", Form::Same),
    (
        "optimizer",
        "beta1",
        "write `betas = [0.9, 0.98]`",
        Form::Advice,
    ),
    (
        "optimizer",
        "beta2",
        "write `betas = [0.9, 0.98]`",
        Form::Advice,
    ),
    ("schedule", "name", "schedule.kind", Form::Same),
    ("schedule", "type", "schedule.kind", Form::Same),
    ("schedule", "epochs", "schedule.length", Form::Epochs),
    ("schedule", "steps", "schedule.length", Form::Steps),
    ("schedule", "max_steps", "schedule.length", Form::Steps),
    ("schedule", "total_steps", "schedule.length", Form::Steps),
    ("schedule", "warmup_steps", "schedule.warmup", Form::Steps),
    ("schedule", "warmup_epochs", "schedule.warmup", Form::Epochs),
    ("loss", "type", "loss.kind", Form::Same),
    ("data.train", "type", "data.train.source", Form::Same),
    ("data.train", "format", "data.train.source", Form::Same),
    ("data.val", "type", "data.val.source", Form::Same),
    ("data.val", "format", "data.val.source", Form::Same),
];

/// Moves keys that are called otherwise here to the keys that they mean, which are then missed nowhere.
pub(super) fn replace_keys(table: &mut Table) -> Vec<Respelled> {
    let mut respelled: Vec<Respelled> = model_by_name(table).into_iter().collect();
    for (home, name, meant, form) in KEYS {
        let Some(own) = table_at(table, home) else {
            continue;
        };
        let written = own.keys().find(|key| plain_key(key) == *name).cloned();
        let Some((written, value)) = written.and_then(|key| own.remove_entry(&key)) else {
            continue;
        };
        let place = join(home, &written);
        let Some(value) = value_in(*form, &value) else {
            respelled.push(Respelled {
                issue: ConfigIssue::unknown(&place, format!("unknown key; {meant}")),
                right: place,
            });
            continue;
        };
        let (header, key) = meant.rsplit_once('.').unwrap_or(("", meant));
        let line = format!("`{key} = {value}`");
        let advice = if *home == header {
            format!("write {line}")
        } else {
            format!("write {line} in [{header}]")
        };
        let issue = ConfigIssue::unknown(&place, format!("unknown key; {advice}"));
        let is_free = insert_at(table, header, key, value);
        respelled.push(Respelled {
            issue,
            right: if is_free { (*meant).to_string() } else { place },
        });
    }
    respelled
}

/// `model = "ViT-B-32"` as the preset of `[model]`.
fn model_by_name(table: &mut Table) -> Option<Respelled> {
    let Some(Value::String(name)) = table.get("model") else {
        return None;
    };
    let message = format!(
        "expected a table, found the string {name:?}; write `preset = {name:?}` in a table [model]"
    );
    let model = Table::from_iter([("preset".to_string(), Value::from(name.clone()))]);
    table.insert("model".into(), Value::Table(model));
    Some(Respelled {
        issue: ConfigIssue::new("model", message),
        right: "model".into(),
    })
}

/// The value as it is written here; `None` if there is no one form.
fn value_in(form: Form, value: &Value) -> Option<Value> {
    let count = match value {
        Value::Integer(count) => count.to_string(),
        Value::Float(count) => count.to_string(),
        other => return (form != Form::Advice).then(|| other.clone()),
    };
    match form {
        Form::Same => Some(value.clone()),
        Form::Steps => Some(format!("{count} steps").into()),
        Form::Epochs => Some(format!("{count} epochs").into()),
        Form::Advice => None,
    }
}

fn plain_key(key: &str) -> String {
    key.to_lowercase().replace('-', "_")
}

fn table_at<'t>(table: &'t mut Table, path: &str) -> Option<&'t mut Table> {
    let mut at = table;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        at = at.get_mut(step)?.as_table_mut()?;
    }
    Some(at)
}

/// - returns whether the key is free.
fn insert_at(table: &mut Table, header: &str, key: &str, value: Value) -> bool {
    let mut at = table;
    for step in header.split('.') {
        let next = at
            .entry(step)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut();
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    if at.contains_key(key) {
        return false;
    }
    at.insert(key.to_string(), value);
    true
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SOUND, problems};
    use super::*;

    fn only(text: &str, set: &[&str]) -> (String, String) {
        let mut found = problems(text, set);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn every_key_leads_to_one_that_exists() {
        let known = super::super::schema::keys();
        for (home, name, meant, form) in KEYS {
            let own = join(home, name);
            assert!(!known.iter().any(|key| key.path == own), "{own}");
            if *form != Form::Advice {
                assert!(known.iter().any(|key| key.path == *meant), "{meant}");
            }
        }
    }

    #[test]
    fn keys_of_open_clip_are_answered_with_the_line_to_write() {
        let text = SOUND.replace("length = \"2 epochs\"\n", "");
        assert_eq!(
            only(&format!("epochs = 2\n{text}"), &[]),
            (
                "epochs".into(),
                "unknown key; write `length = \"2 epochs\"` in [schedule]".into()
            )
        );
        let text = SOUND.replace("global = 16", "size = 16");
        assert_eq!(
            only(&text, &[]),
            (
                "batch.size".into(),
                "unknown key; write `global = 16`".into()
            )
        );
        let text = SOUND
            .replace("[model]\npreset = \"ViT-Ti-8-32\"", "")
            .replace("name = \"t\"", "name = \"t\"\nmodel = \"ViT-Ti-8-32\"");
        let (key, message) = only(&text, &[]);
        assert_eq!(key, "model");
        assert!(message.ends_with("write `preset = \"ViT-Ti-8-32\"` in a table [model]"));
        let (key, message) = only(SOUND, &["warmup=3"]);
        assert_eq!(key, "warmup");
        assert!(
            message.contains("`warmup = \"3 steps\"` in [schedule]"),
            "{message}"
        );
    }
}
