//! Deserialization that reports every mistake of a table at once.
//!
//! serde stops at the first one and, inside tagged enums, forgets where it was. So the table is
//! checked against the schema of its type first, and what is wrong is replaced: by the default, or
//! by a value that serves to go on. serde has the last word.

mod fit;
mod keys;
mod messages;
mod misplaced;
mod places;
mod spelling;
mod stand_in;
mod walk;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::issue::ConfigIssue;
use super::schema::ConfigSchema;
#[cfg(test)]
pub(super) use fit::notation_problem;
pub(super) use keys::{Known, is_within, join};
pub(super) use misplaced::set_right;
pub(super) use spelling::{Respelled, moved};
use walk::Walk;

/// A table read as far as it could be.
pub(super) struct Collected<T> {
    /// `None` if serde found a mistake that the schema does not show.
    pub value: Option<T>,
    pub issues: Vec<ConfigIssue>,
    /// Keys of `value` that are not as the table has them.
    pub doubtful: Vec<String>,
}

/// Reads `table` as `T`.
/// - schema: that of `T`.
pub(super) fn collect<T: DeserializeOwned>(
    table: Table,
    schema: &ConfigSchema,
    known: &Known,
) -> Collected<T> {
    let mut walk = Walk::new(schema, known);
    let sound = walk.value(&schema.root, &Value::Table(table), "");
    let (mut issues, doubtful) = (walk.issues, walk.doubtful);
    let read = sound.map(T::deserialize);
    let value = match read {
        Some(Ok(value)) => Some(value),
        Some(Err(error)) if issues.is_empty() && doubtful.is_empty() => {
            issues.push(ConfigIssue::new("", error.message()));
            None
        }
        _ => None,
    };
    Collected {
        value,
        issues,
        doubtful,
    }
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod misplaced_tests;
#[cfg(test)]
mod tests;
