//! Numbers as people write them.

use couplet_model::shortest;
use serde::Serializer;
use toml::{Table, Value};

/// Serializes a number as [`shortest`] writes it.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(crate) fn as_written<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(shortest(*value))
}

/// Serializes seconds and speeds, which are not exact anyway, with three decimals.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(crate) fn rounded<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(thousandths(*value))
}

/// The number with three decimals.
pub(crate) fn thousandths(value: f64) -> f64 {
    (1000.0 * value).round() / 1000.0
}

/// All numbers of a table as [`shortest`] writes them.
pub(crate) fn shorten(table: &mut Table) {
    for (_, value) in table.iter_mut() {
        shorten_value(value);
    }
}

fn shorten_value(value: &mut Value) {
    match value {
        Value::Float(number) => *number = shortest(*number),
        Value::Array(values) => values.iter_mut().for_each(shorten_value),
        Value::Table(table) => shorten(table),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_numbers_are_shortened_wherever_they_are() {
        let long = f64::from(0.1f32);
        let text = format!("a = {long}\nb = [{long}, 1.5]\n[c]\nd = {long}\n[[e]]\nf = {long}\n");
        let mut table: Table = text.parse().unwrap();
        shorten(&mut table);
        let short = text.replace(&long.to_string(), "0.1");
        assert_eq!(table, short.parse().unwrap());
    }
}
