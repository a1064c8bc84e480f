//! What a config may hold, read off its serde structs: their JSON schema (crate `schemars`), parsed
//! into what checking, completing and documenting a config need.

mod document;
mod parse;
mod reference;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

pub use document::json_schema;
pub use reference::{KeyEntry, keys, nearest_keys, reference};

use super::RunConfig;

/// What may stand in the place of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Text(TextShape),
    Integer(Bounds),
    Number(Bounds),
    Boolean,
    /// One of some words.
    Choice(Vec<Choice>),
    List {
        item: Box<Shape>,
        least: usize,
        most: Option<usize>,
    },
    Table(Vec<Key>),
    /// A table of which one key, the tag, says what the others are.
    Variants {
        tag: String,
        variants: Vec<Variant>,
    },
    /// One of several, told apart by their types.
    Either(Vec<Shape>),
    /// A shape with a name of its own.
    Link(String),
}

/// A string.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TextShape {
    /// The type that parses it, if it is one of those with a notation of their own.
    pub notation: Option<String>,
    pub pattern: Option<String>,
    pub examples: Vec<Json>,
    pub text: String,
    pub is_one_character: bool,
}

/// The range of a number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bounds {
    pub least: Option<f64>,
    pub above: Option<f64>,
    pub most: Option<f64>,
    pub below: Option<f64>,
}

/// A word that a value may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub value: String,
    pub text: String,
}

/// A table as it is for one value of its tag.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variant {
    pub value: String,
    pub text: String,
    /// All but the tag.
    pub keys: Vec<Key>,
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub name: String,
    /// Its doc comment.
    pub text: String,
    pub is_required: bool,
    pub default: Option<Json>,
    pub examples: Vec<Json>,
    /// Whether a resumed run may have another value.
    pub may_change: bool,
    pub shape: Shape,
}

/// The shape of a whole config.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConfigSchema {
    pub root: Shape,
    pub text: String,
    links: BTreeMap<String, Shape>,
}

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

    /// What a link stands for; any other shape stands for itself.
    pub fn resolve<'a>(&'a self, shape: &'a Shape) -> &'a Shape {
        match shape {
            Shape::Link(name) => self.resolve(&self.links[name]),
            _ => shape,
        }
    }

    /// The shape at a path of keys, of those tables that have no variants.
    ///
    /// # Panics
    /// If there is none.
    pub fn at(&self, path: &[&str]) -> &Shape {
        path.iter()
            .fold(&self.root, |shape, name| match self.resolve(shape) {
                Shape::Table(keys) => {
                    let key = keys.iter().find(|key| key.name == *name);
                    &key.expect("a key of the config").shape
                }
                _ => panic!("no table at `{name}`"),
            })
    }
}

/// Whether a resumed run may have another value at a path, such as `batch.micro`.
pub(super) fn may_change(path: &str) -> bool {
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

/// The keys of `[data.train]` that every source has.
pub(super) fn common_train_keys() -> Vec<&'static str> {
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

#[cfg(test)]
mod tests;
