//! What a config may hold, read off its serde structs: their JSON schema (crate `schemars`), parsed
//! into what checking, completing and documenting a config need.

mod document;
mod parse;
mod reference;
mod run;
mod shape;

pub use document::json_schema;
pub use reference::{KeyEntry, keys, nearest_keys, reference};
pub(super) use run::{common_train_keys, may_change, source_names};
pub(super) use shape::{Bounds, ConfigSchema, Key, Shape, TextShape, Variant};

#[cfg(test)]
mod tests;
