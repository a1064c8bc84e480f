//! Whether a single value fits its shape.

use couplet_model::Freeze;
use toml::Value;

use super::super::schema::{Bounds, ConfigSchema, Shape, TextShape};
use super::messages;
use crate::device::DeviceSetting;
use crate::duration::Duration;

/// Whether the value is of the shape's type, whatever it holds.
pub(super) fn is_of_type(schema: &ConfigSchema, shape: &Shape, value: &Value) -> bool {
    match schema.resolve(shape) {
        // serde reads a date as text.
        Shape::Text(_) => value.is_str() || value.is_datetime(),
        Shape::Choice(_) => value.is_str(),
        Shape::Integer(_) => value.is_integer(),
        Shape::Number(_) => value.is_integer() || value.is_float(),
        Shape::Boolean => value.is_bool(),
        Shape::List { .. } => value.is_array(),
        Shape::Table(_) | Shape::Variants { .. } | Shape::Open => value.is_table(),
        Shape::Either(shapes) => shapes.iter().any(|own| is_of_type(schema, own, value)),
        Shape::Link(_) => unreachable!("links are resolved"),
    }
}

pub(super) fn is_table(shape: &Shape) -> bool {
    matches!(shape, Shape::Table(_) | Shape::Variants { .. })
}

/// Why the value does not fit a shape that has no parts.
#[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
pub(super) fn problem(schema: &ConfigSchema, shape: &Shape, value: &Value) -> Option<String> {
    match (shape, value) {
        (Shape::Text(shape), Value::String(text)) => text_problem(shape, text),
        (Shape::Text(shape), Value::Datetime(date)) => text_problem(shape, &date.to_string()),
        (Shape::Choice(choices), Value::String(text)) => {
            let mut words = choices.iter().map(|choice| choice.value.as_str());
            let is_known = words.clone().any(|word| word == text);
            (!is_known).then(|| messages::unknown_value(text, words.by_ref().collect()))
        }
        (Shape::Boolean, Value::Boolean(_)) | (Shape::Open, Value::Table(_)) => None,
        (Shape::Integer(bounds) | Shape::Number(bounds), Value::Integer(number)) => {
            bounds_problem(*bounds, *number as f64, value)
        }
        (Shape::Number(bounds), Value::Float(number)) => bounds_problem(*bounds, *number, value),
        _ => Some(messages::wrong_type(schema, shape, value)),
    }
}

fn text_problem(shape: &TextShape, text: &str) -> Option<String> {
    if shape.is_one_character && text.chars().count() != 1 {
        return Some(format!("expected one character, found {text:?}"));
    }
    let notation = shape.notation.as_deref()?;
    notation_problem(notation, text)
}

/// What the parser of a notation has against a text.
///
/// # Panics
/// If the schema has a notation without a parser here.
pub(in super::super) fn notation_problem(notation: &str, text: &str) -> Option<String> {
    match notation {
        "Duration" => text.parse::<Duration>().err().map(|e| e.to_string()),
        "Device" => text.parse::<DeviceSetting>().err().map(|e| e.to_string()),
        "Freeze" => text.parse::<Freeze>().err().map(|e| e.to_string()),
        other => panic!("the notation {other} has a parser"),
    }
}

/// - value: the number as the table has it.
fn bounds_problem(bounds: Bounds, number: f64, value: &Value) -> Option<String> {
    let fits = bounds.least.is_none_or(|least| number >= least)
        && bounds.above.is_none_or(|above| number > above)
        && bounds.most.is_none_or(|most| number <= most)
        && bounds.below.is_none_or(|below| number < below);
    (!fits).then(|| format!("must be {}, not {value}", messages::range(bounds)))
}
