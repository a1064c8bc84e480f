//! The schema of a run's config, and what is read off it.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::super::tables::RunConfig;
use super::parse;
use super::shape::{ConfigSchema, Key, Shape, Variant};

impl ConfigSchema {
    /// That of a type.
    ///
    /// # Panics
    /// If its schema has what [`Shape`] lacks; tests parse those of all configs.
    pub fn of<T: JsonSchema>() -> Self {
        let schema = SchemaSettings::draft2020_12()
            .into_generator()
            .into_root_schema_for::<T>();
        parse::config_schema(schema.as_value())
    }

    /// That of a run's config.
    pub fn run() -> &'static Self {
        static RUN: LazyLock<ConfigSchema> = LazyLock::new(ConfigSchema::of::<RunConfig>);
        &RUN
    }
}

/// Whether a resumed run may have another value at a path, such as `batch.micro`.
pub(in super::super) fn may_change(path: &str) -> bool {
    let schema = ConfigSchema::run();
    let mut shape = &schema.root;
    for name in path.split('.') {
        let Shape::Table(keys) = schema.resolve(shape) else {
            return false;
        };
        match keys.iter().find(|key| key.name == name) {
            Some(key) if key.may_change => return true,
            Some(key) => shape = &key.shape,
            None => return false,
        }
    }
    false
}

/// The names of all sources.
pub(in super::super) fn source_names() -> Vec<&'static str> {
    let schema = ConfigSchema::run();
    match schema.resolve(schema.at(&["data", "train"])) {
        Shape::Variants { variants, .. } => variants.iter().map(|own| own.value.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// The keys of `[data.train]` that every source has.
pub(in super::super) fn common_train_keys() -> Vec<&'static str> {
    let schema = ConfigSchema::run();
    let Shape::Variants { variants, .. } = schema.resolve(schema.at(&["data", "train"])) else {
        unreachable!("[data.train] has a variant for each source");
    };
    let is_common = |key: &&Key| {
        let has_it = |variant: &Variant| variant.keys.iter().any(|own| own.name == key.name);
        variants.iter().all(has_it)
    };
    let common = variants[0].keys.iter().filter(is_common);
    common.map(|key| key.name.as_str()).collect()
}
