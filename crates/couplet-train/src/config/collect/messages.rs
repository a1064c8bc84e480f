//! What is said of a mistake.

use toml::Value;

use super::super::schema::{Bounds, ConfigSchema, Shape};
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
    format!(
        "expected {}, found {}",
        expected(schema, shape),
        found(value)
    )
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
        Shape::Table(_) | Shape::Variants { .. } => "a table".into(),
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
