//! What a config may hold, read off its serde structs: their JSON schema (crate `schemars`), parsed
//! into what checking, completing and documenting a config need.

mod document;
mod parse;
mod reference;
mod run;
mod shape;

pub use document::{dataset_json_schema, json_schema, sweep_json_schema};
pub use reference::{KeyEntry, keys, nearest_keys, reference};
pub(super) use run::{common_train_keys, may_change, source_names};
pub(crate) use shape::ConfigSchema;
pub(super) use shape::{Bounds, Key, Shape, TextShape, Variant};

#[cfg(test)]
mod tests;
