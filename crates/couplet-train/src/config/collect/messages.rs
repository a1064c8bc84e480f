//! What is said of a mistake.

use toml::Value;

use super::super::schema::{Bounds, ConfigSchema, Key, Shape, Variant};
use crate::nearest::nearest;

pub(super) fn unknown_key(name: &str, names: Vec<&str>, tag: Option<(&str, &str)>) -> String {
    let place = tag.map_or(String::new(), |(tag, value)| {
        format!(" of `{tag} = \"{value}\"`")
    });
    format!("unknown key{place}; {}", advice(name, names))
}

pub(super) fn unknown_value(text: &str, words: Vec<&str>) -> String {
    format!("unknown value `{text}`; {}", advice(text, words))
}

/// The word that was meant, or else those that there are.
fn advice(word: &str, mut words: Vec<&str>) -> String {
    match nearest(word, words.iter().copied()) {
        Some(right) => format!("did you mean `{right}`?"),
        None if words.is_empty() => "there are none".into(),
        None => {
            let mut seen = std::collections::HashSet::new();
            words.retain(|word| seen.insert(*word));
            format!("expected {}", one_of(&words))
        }
    }
}

/// `a`, `b` or `c`
pub(super) fn one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match &words[..] {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

pub(super) fn wrong_type(schema: &ConfigSchema, shape: &Shape, value: &Value) -> String {
    let advice = form_advice(schema, shape, value);
    let advice = advice.map_or(String::new(), |advice| format!("; {advice}"));
    format!(
        "expected {}, found {}{advice}",
        expected(schema, shape),
        found(value)
    )
}

/// The same value as the shape has it.
fn form_advice(schema: &ConfigSchema, shape: &Shape, value: &Value) -> Option<String> {
    match (schema.resolve(shape), value) {
        (Shape::Text(text), Value::Integer(_) | Value::Float(_))
            if text.notation.as_deref() == Some("Duration") =>
        {
            Some(format!(
                "write \"{value} steps\", \"{value} epochs\" or \"{value} samples\""
            ))
        }
        (Shape::Text(_), Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) => {
            Some(format!("write it in quotes: \"{value}\""))
        }
        (Shape::Integer(_), Value::String(text)) if text.parse::<i64>().is_ok() => {
            Some(format!("remove the quotes: {text}"))
        }
        (Shape::Number(_), Value::String(text)) if text.parse::<f64>().is_ok() => {
            Some(format!("remove the quotes: {text}"))
        }
        (Shape::Boolean, Value::String(text)) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" => Some("write true, without quotes".into()),
            "false" | "no" | "off" => Some("write false, without quotes".into()),
            _ => None,
        },
        (Shape::Boolean, Value::Integer(0)) => Some("write false".into()),
        (Shape::Boolean, Value::Integer(1)) => Some("write true".into()),
        (Shape::List { item, .. }, Value::String(_))
            if matches!(schema.resolve(item), Shape::Text(_)) =>
        {
            Some(format!("write it in brackets: [{value}]"))
        }
        (Shape::Either(shapes), value) => {
            let mut shapes = shapes.iter();
            shapes.find_map(|own| form_advice(schema, own, value))
        }
        _ => None,
    }
}

/// Whether a missing key is a table, and what is said of it.
/// - path: of the table that lacks it.
pub(super) fn missing(schema: &ConfigSchema, path: &str, key: &Key) -> (bool, String) {
    let header = super::keys::join(path, &key.name);
    let Some((header, keys)) = table_to_add(schema, &header, &key.shape) else {
        let value = expected(schema, schema.resolve(&key.shape));
        let top = if path.is_empty() {
            ", above all tables"
        } else {
            ""
        };
        let name = &key.name;
        return (false, format!("is missing; add `{name} = …`{top}: {value}"));
    };
    let keys: Vec<String> = keys.iter().map(|name| format!("`{name}`")).collect();
    let with = match &keys[..] {
        [] => String::new(),
        keys => format!(" with {}", keys.join(", ")),
    };
    // An entry of a list has no header of its own.
    let message = if path.contains('[') {
        format!("is missing; add a table `{}`{with}", key.name)
    } else {
        format!("is missing; add a table `[{header}]`{with}")
    };
    (true, message)
}

/// The header of a table to write and the keys that it needs; of one that needs nothing but a table, that.
fn table_to_add<'a>(
    schema: &'a ConfigSchema,
    header: &str,
    shape: &'a Shape,
) -> Option<(String, Vec<&'a str>)> {
    match schema.resolve(shape) {
        Shape::Table(keys) => {
            if header == "model" {
                return Some((header.to_string(), vec!["preset"]));
            }
            let needed: Vec<&Key> = keys.iter().filter(|key| key.is_required).collect();
            if let [only] = needed[..] {
                let inner = format!("{header}.{}", only.name);
                if let Some(inner) = table_to_add(schema, &inner, &only.shape) {
                    return Some(inner);
                }
            }
            let names = needed.iter().map(|key| key.name.as_str()).collect();
            Some((header.to_string(), names))
        }
        Shape::Variants { tag, variants } => {
            let in_all = |key: &&Key| {
                let needs = |own: &Variant| {
                    let mut keys = own.keys.iter();
                    keys.any(|other| other.is_required && other.name == key.name)
                };
                variants.iter().all(needs)
            };
            let needed = variants[0].keys.iter().filter(in_all);
            let names = needed.map(|key| key.name.as_str());
            Some((
                header.to_string(),
                std::iter::once(tag.as_str()).chain(names).collect(),
            ))
        }
        _ => None,
    }
}

pub(super) fn wrong_length(least: usize, most: Option<usize>, len: usize) -> String {
    match most {
        Some(most) if most == least => format!("expected {least} values, found {len}"),
        _ if len == 0 => "the list is empty".into(),
        _ => format!("expected at least {least} values, found {len}"),
    }
}

fn expected(schema: &ConfigSchema, shape: &Shape) -> String {
    match schema.resolve(shape) {
        Shape::Text(text) => match text.examples.first() {
            Some(example) => format!("a string such as {example}"),
            None => "a string".into(),
        },
        Shape::Integer(_) => "a whole number".into(),
        Shape::Number(_) => "a number".into(),
        Shape::Boolean => "true or false".into(),
        Shape::Choice(choices) => {
            let words: Vec<&str> = choices.iter().map(|own| own.value.as_str()).collect();
            one_of(&words)
        }
        Shape::List { item, least, most } => {
            let many = match schema.resolve(item) {
                Shape::Number(_) => "numbers",
                Shape::Integer(_) => "whole numbers",
                Shape::Table(_) | Shape::Variants { .. } => "tables",
                _ => "strings",
            };
            match most {
                Some(most) if most == least => format!("{most} {many}"),
                _ => format!("a list of {many}"),
            }
        }
        Shape::Table(_) | Shape::Variants { .. } | Shape::Open => "a table".into(),
        Shape::Either(shapes) => {
            let all: Vec<String> = shapes.iter().map(|own| expected(schema, own)).collect();
            all.join(" or ")
        }
        Shape::Link(_) => unreachable!("links are resolved"),
    }
}

/// A value as a person would call it.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string {text:?}"),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => format!("{value}"),
        Value::Datetime(_) => "a date".into(),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
    }
}

/// `at least 0 and below 1`
pub(super) fn range(bounds: Bounds) -> String {
    let low = (bounds.least.map(|least| format!("at least {least}")))
        .or_else(|| bounds.above.map(|above| format!("above {above}")));
    let high = (bounds.most.map(|most| format!("at most {most}")))
        .or_else(|| bounds.below.map(|below| format!("below {below}")));
    let both: Vec<String> = low.into_iter().chain(high).collect();
    both.join(" and ")
}
