//! The shapes of a config's values.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// The values that a key accepts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
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
    /// A table with any keys.
    Open,
    /// One of several shapes, distinguished by their types.
    Either(Vec<Shape>),
    /// A shape with a name of its own.
    Link(String),
}

/// A string.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TextShape {
    /// The type that parses it, if it is one of those with a notation of their own.
    pub notation: Option<String>,
    pub pattern: Option<String>,
    pub examples: Vec<Json>,
    pub text: String,
    pub is_one_character: bool,
}

/// The range of a number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Bounds {
    pub least: Option<f64>,
    pub above: Option<f64>,
    pub most: Option<f64>,
    pub below: Option<f64>,
}

/// A word that a value may be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub value: String,
    pub text: String,
}

/// A table as it is for one value of its tag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variant {
    pub value: String,
    pub text: String,
    /// All but the tag.
    pub keys: Vec<Key>,
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
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
pub(crate) struct ConfigSchema {
    pub root: Shape,
    pub text: String,
    pub(crate) links: BTreeMap<String, Shape>,
}

impl ConfigSchema {
    /// Follows a reference; any other shape is returned unchanged.
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
