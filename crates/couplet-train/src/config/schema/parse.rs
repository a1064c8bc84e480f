//! From the JSON schema that `schemars` derives.

use serde_json::{Map, Value as Json};

use super::shape::{Bounds, Choice, ConfigSchema, Key, Shape, TextShape, Variant};

const LINK: &str = "#/$defs/";

pub(super) fn config_schema(schema: &Json) -> ConfigSchema {
    let defs = schema.get("$defs").and_then(Json::as_object);
    let links = defs.into_iter().flatten().map(|(name, schema)| {
        let shape = match shape(schema) {
            Shape::Text(text) if text.pattern.is_some() => Shape::Text(TextShape {
                notation: Some(name.clone()),
                ..text
            }),
            other => other,
        };
        (name.clone(), shape)
    });
    ConfigSchema {
        root: shape(schema),
        text: description(schema),
        links: links.collect(),
    }
}

fn shape(schema: &Json) -> Shape {
    if let Some(link) = schema.get("$ref").and_then(Json::as_str) {
        return Shape::Link(link.trim_start_matches(LINK).to_string());
    }
    let branches = |key: &str| {
        let all = schema.get(key).and_then(Json::as_array);
        let all = all.into_iter().flatten();
        all.filter(|branch| branch.get("type").and_then(Json::as_str) != Some("null"))
            .collect::<Vec<_>>()
    };
    match &branches("anyOf")[..] {
        [] => {}
        [only] => return shape(only),
        several => return Shape::Either(several.iter().map(|branch| shape(branch)).collect()),
    }
    let one_of = branches("oneOf");
    if !one_of.is_empty() {
        return tag_of(one_of[0]).map_or_else(
            || Shape::Choice(one_of.iter().flat_map(|branch| choices(branch)).collect()),
            |tag| variants(schema, &tag, &one_of),
        );
    }
    if schema.get("enum").is_some() || schema.get("const").is_some() {
        return Shape::Choice(choices(schema));
    }
    let names = schema.get("type").expect("a schema has a type");
    let name = match names {
        Json::Array(names) => names.iter().find(|name| *name != "null"),
        name => Some(name),
    };
    match name.and_then(Json::as_str) {
        Some("string") => Shape::Text(text(schema)),
        Some("integer") => Shape::Integer(bounds(schema)),
        Some("number") => Shape::Number(bounds(schema)),
        Some("boolean") => Shape::Boolean,
        Some("array") => Shape::List {
            item: Box::new(shape(&schema["items"])),
            least: size(schema, "minItems").unwrap_or(0),
            most: size(schema, "maxItems"),
        },
        Some("object") if schema.get("x-any-keys").is_some() => Shape::Open,
        Some("object") => Shape::Table(keys(schema, None)),
        other => panic!("no shape for the type {other:?}"),
    }
}

fn text(schema: &Json) -> TextShape {
    TextShape {
        notation: None,
        pattern: schema
            .get("pattern")
            .and_then(Json::as_str)
            .map(str::to_string),
        examples: examples(schema),
        text: description(schema),
        is_one_character: size(schema, "maxLength") == Some(1),
    }
}

fn bounds(schema: &Json) -> Bounds {
    let number = |key: &str| schema.get(key).and_then(Json::as_f64);
    let largest = match schema.get("format").and_then(Json::as_str) {
        Some("uint32") => Some(f64::from(u32::MAX)),
        _ => None,
    };
    Bounds {
        least: number("minimum"),
        above: number("exclusiveMinimum"),
        most: number("maximum").or(largest),
        below: number("exclusiveMaximum"),
    }
}

fn size(schema: &Json, key: &str) -> Option<usize> {
    let size = schema.get(key)?.as_u64()?;
    usize::try_from(size).ok()
}

fn choices(schema: &Json) -> Vec<Choice> {
    let constant = schema.get("const").into_iter();
    let several = schema.get("enum").and_then(Json::as_array);
    constant
        .chain(several.into_iter().flatten())
        .filter_map(Json::as_str)
        .map(|value| Choice {
            value: value.to_string(),
            text: description(schema),
        })
        .collect()
}

/// The key whose value is fixed in a variant's table.
fn tag_of(schema: &Json) -> Option<String> {
    let properties = schema.get("properties")?.as_object()?;
    let tag = properties
        .iter()
        .find(|(_, key)| key.get("const").is_some());
    tag.map(|(name, _)| name.clone())
}

/// - schema: has the keys that all variants share.
fn variants(schema: &Json, tag: &str, branches: &[&Json]) -> Shape {
    let variant = |branch: &&Json| {
        let value = branch["properties"][tag]["const"].as_str();
        let mut all = keys(branch, Some(tag));
        all.extend(keys(schema, None));
        Variant {
            value: value.expect("tags are strings").to_string(),
            text: description(branch),
            keys: all,
        }
    };
    Shape::Variants {
        tag: tag.to_string(),
        variants: branches.iter().map(variant).collect(),
    }
}

fn keys(schema: &Json, tag: Option<&str>) -> Vec<Key> {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Json::as_object);
    let required = schema.get("required").and_then(Json::as_array);
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|own| own == name));
    let properties = properties.unwrap_or(&none).iter();
    properties
        .filter(|(name, _)| Some(name.as_str()) != tag)
        .map(|(name, schema)| Key {
            name: name.clone(),
            text: description(schema),
            is_required: is_required(name),
            default: schema.get("default").and_then(default),
            examples: examples(schema),
            may_change: schema.get("x-may-change").is_some(),
            shape: shape(schema),
        })
        .collect()
}

/// A default as a person writes it: an f32 with its own digits, nothing for none.
fn default(value: &Json) -> Option<Json> {
    match value {
        Json::Null => None,
        Json::Array(items) => Some(items.iter().filter_map(default).collect()),
        Json::Object(table) => {
            let table = table.iter();
            let table = table.filter_map(|(name, value)| Some((name.clone(), default(value)?)));
            Some(Json::Object(table.collect()))
        }
        Json::Number(number) if number.is_f64() => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "to see if it loses anything"
            )]
            let short = value.as_f64().map(|wide| (wide, wide as f32));
            let short = short.filter(|(wide, short)| f64::from(*short) == *wide);
            let digits = short.and_then(|(_, short)| short.to_string().parse::<f64>().ok());
            Some(digits.map_or_else(|| value.clone(), Json::from))
        }
        _ => Some(value.clone()),
    }
}

fn examples(schema: &Json) -> Vec<Json> {
    let examples = schema.get("examples").and_then(Json::as_array);
    examples.cloned().unwrap_or_default()
}

/// Its lines joined: where they break is of no meaning.
fn description(schema: &Json) -> String {
    let text = schema.get("description").and_then(Json::as_str);
    let words = text.unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}
