//! Misspelt keys, set right before anything else is asked of a table: what they hold is then
//! checked too, and what they should have been called is not missed.

use toml::{Table, Value};

use super::super::issue::ConfigIssue;
use super::super::schema::{ConfigSchema, Key, Shape};
use super::keys::join;
use super::messages;
use crate::nearest::nearest;

/// A key that got its right name.
#[derive(Debug, PartialEq)]
pub(in super::super) struct Respelled {
    pub issue: ConfigIssue,
    /// The path of its right name.
    pub right: String,
}

/// Each key as it is written, with the path of its right name.
pub(in super::super) fn moved(respelled: &[Respelled]) -> Vec<(String, String)> {
    let pairs = respelled.iter();
    let pairs = pairs.map(|key| (key.issue.key.clone(), key.right.clone()));
    pairs.collect()
}

/// Renames every unknown key that is most like one that the table lacks.
pub(super) fn respell(schema: &ConfigSchema, table: &mut Table) -> Vec<Respelled> {
    let mut respelled = Vec::new();
    visit(schema, &schema.root, table, "", &mut respelled);
    respelled
}

fn visit(
    schema: &ConfigSchema,
    shape: &Shape,
    table: &mut Table,
    path: &str,
    out: &mut Vec<Respelled>,
) {
    match schema.resolve(shape) {
        Shape::Table(keys) => {
            let keys: Vec<&Key> = keys.iter().collect();
            let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            rename(table, &names, &names, path, out);
            descend(schema, &keys, table, path, out);
        }
        Shape::Variants { tag, variants } => {
            let keys = || variants.iter().flat_map(|variant| &variant.keys);
            let tag_name = std::iter::once(tag.as_str());
            let all: Vec<&str> = tag_name
                .chain(keys().map(|key| key.name.as_str()))
                .collect();
            rename(table, &all, &[tag.as_str()], path, out);
            let values = || variants.iter().map(|variant| variant.value.as_str());
            let value = table.get(tag).and_then(Value::as_str);
            let value = value.and_then(|text| nearest(text, values()));
            let chosen = variants
                .iter()
                .find(|own| Some(own.value.as_str()) == value);
            let keys: Vec<&Key> = match chosen {
                Some(variant) => variant.keys.iter().collect(),
                None => keys().collect(),
            };
            let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            rename(table, &all, &names, path, out);
            descend(schema, &keys, table, path, out);
        }
        _ => {}
    }
}

/// - known: names that are not misspelt.
/// - right: names that may have been meant.
fn rename(table: &mut Table, known: &[&str], right: &[&str], path: &str, out: &mut Vec<Respelled>) {
    let unknown = table.keys().filter(|name| !known.contains(&name.as_str()));
    for name in unknown.cloned().collect::<Vec<String>>() {
        let meant = nearest(&name, right.iter().copied());
        let meant = meant.filter(|meant| !table.contains_key(*meant));
        let Some(value) = meant.and_then(|_| table.remove(&name)) else {
            continue;
        };
        let meant = meant.unwrap_or_default();
        table.insert(meant.to_string(), value);
        let message = messages::unknown_key(&name, vec![meant], None);
        out.push(Respelled {
            issue: ConfigIssue::unknown(&join(path, &name), message),
            right: join(path, meant),
        });
    }
}

fn descend(
    schema: &ConfigSchema,
    keys: &[&Key],
    table: &mut Table,
    path: &str,
    out: &mut Vec<Respelled>,
) {
    for (name, value) in table.iter_mut() {
        let Some(key) = keys.iter().find(|key| key.name == *name) else {
            continue;
        };
        let place = join(path, name);
        match (value, schema.resolve(&key.shape)) {
            (Value::Table(table), shape) => visit(schema, shape, table, &place, out),
            (Value::Array(items), Shape::List { item, .. }) => {
                for (at, value) in items.iter_mut().enumerate() {
                    if let Value::Table(table) = value {
                        visit(schema, item, table, &format!("{place}[{at}]"), out);
                    }
                }
            }
            _ => {}
        }
    }
}
