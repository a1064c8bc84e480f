//! Words of other libraries and of earlier versions, which are taken for ours where they mean one.

use couplet_model::presets;
use toml::{Table, Value};

use super::collect::{Respelled, join, set_right};
use super::other_keys::replace_keys;
use super::schema::{ConfigSchema, Shape};
use crate::device::DeviceSetting;

/// Words for a value, by the value's key: open_clip's, PyTorch's and those of earlier versions.
const VALUES: &[(&str, &str, &str)] = &[
    ("precision", "f32", "fp32"),
    ("precision", "float32", "fp32"),
    ("precision", "f16", "fp16"),
    ("precision", "float16", "fp16"),
    ("precision", "amp", "fp16"),
    ("precision", "bfloat16", "bf16"),
    ("precision", "amp-bf16", "bf16"),
    ("precision", "amp-bfloat16", "bf16"),
    ("schedule.kind", "const", "constant"),
    ("schedule.kind", "const-cooldown", "constant-cooldown"),
    ("loss.kind", "clip", "softmax"),
    ("loss.kind", "siglip", "sigmoid"),
];

/// Sets keys and words right before a config is read.
/// - partial: a table of which any key may be missing.
pub(super) fn put_right(table: &mut Table, partial: Option<&str>) -> Vec<Respelled> {
    let schema = ConfigSchema::run();
    let mut respelled = replace_keys(table);
    canonical_words(schema, &schema.root, table, "");
    respelled.extend(set_right(schema, table, partial));
    respelled
}

/// Replaces words that mean the same as one that a key accepts, as in a saved config of an earlier version.
pub(crate) fn set_words_right(table: &mut Table) {
    let schema = ConfigSchema::run();
    canonical_words(schema, &schema.root, table, "");
}

fn canonical_words(schema: &ConfigSchema, shape: &Shape, table: &mut Table, path: &str) {
    let mut visit = |name: &str, shape: &Shape| {
        let key = join(path, name);
        match (table.get_mut(name), schema.resolve(shape)) {
            (Some(Value::String(text)), Shape::Choice(choices)) => {
                set_word(text, &key, choices.iter().map(|own| own.value.as_str()));
            }
            (Some(Value::String(text)), Shape::Text(own))
                if own.notation.as_deref() == Some("Device") =>
            {
                let word = text.to_lowercase().parse::<DeviceSetting>();
                *text = word.map_or_else(|_| text.clone(), |device| device.to_string());
            }
            (Some(Value::Table(own)), shape) => canonical_words(schema, shape, own, &key),
            (Some(Value::Array(items)), Shape::List { item, .. }) => {
                for own in items.iter_mut().filter_map(Value::as_table_mut) {
                    canonical_words(schema, schema.resolve(item), own, &key);
                }
            }
            _ => {}
        }
    };
    match schema.resolve(shape) {
        Shape::Table(keys) => keys.iter().for_each(|key| visit(&key.name, &key.shape)),
        Shape::Variants { tag, variants } => {
            for key in variants.iter().flat_map(|own| &own.keys) {
                visit(&key.name, &key.shape);
            }
            if let Some(Value::String(text)) = table.get_mut(tag) {
                let words = variants.iter().map(|own| own.value.as_str());
                set_word(text, &join(path, tag), words);
            }
        }
        _ => {}
    }
    if path == "model"
        && let Some(Value::String(preset)) = table.get_mut("preset")
    {
        let names: Vec<&str> = presets::names().collect();
        set_word(preset, "model.preset", names.iter().copied());
    }
}

/// - words: those that the key accepts.
fn set_word<'w>(text: &mut String, key: &str, words: impl Iterator<Item = &'w str> + Clone) {
    if words.clone().any(|word| word == text) {
        return;
    }
    let plain = |word: &str| word.to_lowercase().replace(['_', '/'], "-");
    let typed = plain(text);
    let meant = VALUES
        .iter()
        .find(|(own, word, _)| *own == key && *word == typed);
    let typed = meant.map_or(typed, |(_, _, right)| (*right).to_string());
    let mut same = words.filter(|word| plain(word) == typed);
    if let (Some(only), None) = (same.next(), same.next()) {
        *text = only.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SOUND, read};
    use super::*;

    #[test]
    fn words_of_open_clip_and_pytorch_are_accepted() {
        let same = |set: &[&str], plain: &[&str]| {
            let [typed, plain] = [set, plain].map(|set| read(SOUND, set).unwrap().config);
            assert_eq!(typed, plain, "{set:?}");
        };
        same(&["optimizer.kind=AdamW"], &[]);
        same(&["schedule.kind=Cosine", "loss.kind=clip"], &[]);
        same(&["model.preset=vit-ti/8-32"], &[]);
        same(&["device=CPU"], &["device=flex"]);
        for word in ["f32", "FP32", "float32"] {
            same(&[&format!("precision={word}")], &[]);
        }
        let file = SOUND.replace("[model]", "precision = \"f32\"\n[model]");
        assert_eq!(
            read(&file, &[]).unwrap().config,
            read(SOUND, &[]).unwrap().config
        );
    }

    #[test]
    fn the_saved_config_of_an_earlier_version_says_the_same() {
        let mut before: Table = "device = 'flex'\nprecision = 'f32'".parse().unwrap();
        set_words_right(&mut before);
        let now = "device = 'cpu'\nprecision = 'fp32'".parse().unwrap();
        assert_eq!(before, now);
    }

    #[test]
    fn every_word_leads_to_one_that_exists() {
        let schema = ConfigSchema::run();
        for (key, word, right) in VALUES {
            let mut table: Table = format!("{key} = '{word}'").parse().unwrap();
            canonical_words(schema, &schema.root, &mut table, "");
            assert_eq!(table, format!("{key} = '{right}'").parse().unwrap());
        }
    }
}
