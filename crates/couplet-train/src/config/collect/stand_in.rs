//! Values in the place of those that are missing or wrong, so that reading goes on.

use toml::{Table, Value};

use super::super::schema::{Bounds, ConfigSchema, Key, Shape};

/// Any value that fits.
pub(super) fn stand_in(schema: &ConfigSchema, shape: &Shape) -> Value {
    match schema.resolve(shape) {
        Shape::Text(text) => {
            let example = text.examples.first().and_then(|example| example.as_str());
            Value::String(example.unwrap_or("x").to_string())
        }
        #[expect(clippy::cast_possible_truncation, reason = "least values are small")]
        Shape::Integer(bounds) => Value::Integer(bounds.least.unwrap_or(1.0).max(1.0) as i64),
        Shape::Number(bounds) => Value::Float(number(*bounds)),
        Shape::Boolean => Value::Boolean(false),
        Shape::Choice(choices) => Value::String(choices[0].value.clone()),
        Shape::List { item, least, .. } => Value::Array(vec![stand_in(schema, item); *least]),
        Shape::Table(keys) => Value::Table(table(schema, keys)),
        Shape::Open => Value::Table(Table::new()),
        Shape::Variants { tag, variants } => {
            let mut table = table(schema, &variants[0].keys);
            table.insert(tag.clone(), variants[0].value.as_str().into());
            Value::Table(table)
        }
        Shape::Either(shapes) => stand_in(schema, &shapes[0]),
        Shape::Link(_) => unreachable!("links are resolved"),
    }
}

fn number(bounds: Bounds) -> f64 {
    let low = bounds.least.or(bounds.above).unwrap_or(0.0);
    let high = bounds.most.or(bounds.below).unwrap_or(low + 1.0);
    f64::midpoint(low, high)
}

fn table(schema: &ConfigSchema, keys: &[Key]) -> Table {
    let required = keys.iter().filter(|key| key.is_required);
    required
        .map(|key| (key.name.clone(), stand_in(schema, &key.shape)))
        .collect()
}
