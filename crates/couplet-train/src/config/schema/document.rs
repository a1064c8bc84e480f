//! The JSON schema of a run's file, for editors.

use serde_json::{Map, Value as Json, json};

use super::super::dataset_file::dataset_schema;
use super::shape::{Bounds, Choice, ConfigSchema, Key, Shape, TextShape, Variant};
use crate::sweep::sweep_schema;

type Object = Map<String, Json>;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The JSON schema (draft 2020-12) of the file that `couplet train` reads.
///
/// It differs from that of the serde structs where a file need not be complete: a preset supplies
/// what `[model]` lacks, and `[classify]` names the training data.
pub fn json_schema() -> Json {
    let schema = ConfigSchema::run();
    let mut root = Object::new();
    root.insert("$schema".into(), DRAFT.into());
    root.insert("title".into(), "Run config of Couplet".into());
    root.insert("description".into(), schema.text.clone().into());
    root.extend(node(schema, &schema.root, Missing::Refused));
    drop_required(&mut root, "data");
    root.insert("if".into(), json!({ "required": ["classify"] }));
    root.insert("then".into(), true.into());
    let train = json!({ "required": ["source"] });
    let data = json!({ "required": ["train"], "properties": { "train": train } });
    let named = json!({ "required": ["data"], "properties": { "data": data } });
    root.insert("else".into(), named);
    let defs = (schema.links.iter()).map(|(name, shape)| (name.clone(), def(schema, name, shape)));
    root.insert("$defs".into(), Json::Object(defs.collect()));
    Json::Object(root)
}

/// The JSON schema of a dataset file.
pub fn dataset_json_schema() -> Json {
    plain(dataset_schema(), "Dataset file of Couplet")
}

/// The JSON schema of the file that `couplet sweep` reads.
pub fn sweep_json_schema() -> Json {
    plain(sweep_schema(), "Sweep file of Couplet")
}

/// The schema of a file that must be complete.
fn plain(schema: &ConfigSchema, title: &str) -> Json {
    let mut root = Object::new();
    root.insert("$schema".into(), DRAFT.into());
    root.insert("title".into(), title.into());
    root.insert("description".into(), schema.text.clone().into());
    root.extend(node(schema, &schema.root, Missing::Refused));
    let defs = schema.links.iter();
    let defs = defs.map(|(name, shape)| {
        let def = node(schema, shape, Missing::Refused);
        (name.clone(), Json::Object(def))
    });
    let defs: Object = defs.collect();
    if !defs.is_empty() {
        root.insert("$defs".into(), Json::Object(defs));
    }
    Json::Object(root)
}

/// Whether a key that serde requires may be missing.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Refused,
    /// A preset has it.
    Allowed,
}

fn def(schema: &ConfigSchema, name: &str, shape: &Shape) -> Json {
    let mut def = node(schema, shape, Missing::Refused);
    match name {
        "ModelConfig" => {
            let complete = def;
            def = node(schema, shape, Missing::Allowed);
            let either = json!([{ "required": ["preset"] }, { "required": ["weights"] }]);
            def.insert("if".into(), json!({ "anyOf": either }));
            def.insert("then".into(), true.into());
            let [required, properties] =
                ["required", "properties"].map(|part| complete[part].clone());
            let otherwise = json!({ "required": required, "properties": properties });
            def.insert("else".into(), otherwise);
        }
        "DataConfig" => drop_required(&mut def, "train"),
        "TrainDataConfig" => {
            let branches = def.get_mut("oneOf").and_then(Json::as_array_mut);
            for branch in branches.into_iter().flatten() {
                if branch["properties"]["source"]["const"] == "dataset"
                    && let Some(branch) = branch.as_object_mut()
                {
                    drop_required(branch, "source");
                }
            }
        }
        _ => {}
    }
    Json::Object(def)
}

fn drop_required(table: &mut Object, key: &str) {
    if let Some(required) = table.get_mut("required").and_then(Json::as_array_mut) {
        required.retain(|name| name != key);
    }
}

fn node(schema: &ConfigSchema, shape: &Shape, missing: Missing) -> Object {
    let value = match shape {
        // A preset may complete a table differently from its schema.
        Shape::Link(name) if missing == Missing::Refused => {
            json!({ "$ref": format!("#/$defs/{name}") })
        }
        Shape::Link(_) => return node(schema, schema.resolve(shape), missing),
        Shape::Text(text) => return string(text),
        Shape::Integer(bounds) => return number("integer", *bounds),
        Shape::Number(bounds) => return number("number", *bounds),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Open => json!({ "type": "object" }),
        Shape::Choice(choices) => json!({ "oneOf": choices.iter().map(choice).collect::<Json>() }),
        Shape::List { item, least, most } => {
            let mut list = Object::new();
            list.insert("type".into(), "array".into());
            let item = node(schema, item, missing);
            list.insert("items".into(), Json::Object(item));
            if *least > 0 {
                list.insert("minItems".into(), (*least).into());
            }
            list.extend(most.map(|most| ("maxItems".into(), most.into())));
            return list;
        }
        Shape::Table(keys) => return table(schema, keys, None, missing),
        Shape::Variants { tag, variants } => {
            let branches = variants.iter();
            let branches = branches.map(|own| {
                let mut branch = Object::new();
                branch.insert("description".into(), own.text.clone().into());
                let tag = Some((tag.as_str(), own));
                branch.extend(table(schema, &own.keys, tag, missing));
                Json::Object(branch)
            });
            let branches: Json = branches.collect();
            match missing {
                Missing::Refused => json!({ "oneOf": branches }),
                // Without its tag a table may be several of them.
                Missing::Allowed => json!({ "anyOf": branches }),
            }
        }
        Shape::Either(shapes) => {
            let branches = shapes.iter();
            let branches = branches.map(|own| Json::Object(node(schema, own, missing)));
            json!({ "anyOf": branches.collect::<Json>() })
        }
    };
    match value {
        Json::Object(object) => object,
        _ => unreachable!("each of these is an object"),
    }
}

fn choice(choice: &Choice) -> Json {
    if choice.text.is_empty() {
        return json!({ "const": choice.value });
    }
    json!({ "const": choice.value, "description": choice.text })
}

fn string(text: &TextShape) -> Object {
    let mut string = Object::new();
    string.insert("type".into(), "string".into());
    if !text.text.is_empty() {
        string.insert("description".into(), text.text.clone().into());
    }
    let pattern = text.pattern.clone();
    string.extend(pattern.map(|pattern| ("pattern".into(), pattern.into())));
    if text.is_one_character {
        string.insert("minLength".into(), 1.into());
        string.insert("maxLength".into(), 1.into());
    }
    if !text.examples.is_empty() {
        string.insert("examples".into(), text.examples.clone().into());
    }
    string
}

fn number(name: &str, bounds: Bounds) -> Object {
    let mut number = Object::new();
    number.insert("type".into(), name.into());
    let all = [
        ("minimum", bounds.least),
        ("exclusiveMinimum", bounds.above),
        ("maximum", bounds.most),
        ("exclusiveMaximum", bounds.below),
    ];
    for (key, bound) in all {
        number.extend(bound.map(|bound| (key.into(), bound_value(bound))));
    }
    number
}

/// Whole where it is whole.
#[expect(clippy::cast_possible_truncation, reason = "it is compared")]
#[expect(clippy::cast_precision_loss, reason = "it is compared")]
fn bound_value(bound: f64) -> Json {
    let whole = bound as i64;
    if whole as f64 == bound {
        whole.into()
    } else {
        bound.into()
    }
}

/// - tag: the variant that the table is, under its tag.
fn table(
    schema: &ConfigSchema,
    keys: &[Key],
    tag: Option<(&str, &Variant)>,
    missing: Missing,
) -> Object {
    let mut properties = Object::new();
    let mut required = Vec::new();
    if let Some((tag, variant)) = tag {
        let value = json!({ "const": variant.value, "description": variant.text });
        properties.insert(tag.into(), value);
        required.push(Json::from(tag));
    }
    for key in keys {
        let mut value = Object::new();
        value.insert("description".into(), key.text.clone().into());
        for (name, part) in node(schema, &key.shape, missing) {
            value.entry(name).or_insert(part);
        }
        value.extend(key.default.clone().map(|value| ("default".into(), value)));
        if !key.examples.is_empty() {
            value.insert("examples".into(), key.examples.clone().into());
        }
        properties.insert(key.name.clone(), Json::Object(value));
        if key.is_required {
            required.push(key.name.clone().into());
        }
    }
    let mut table = Object::new();
    table.insert("type".into(), "object".into());
    table.insert("properties".into(), Json::Object(properties));
    if missing == Missing::Refused && !required.is_empty() {
        table.insert("required".into(), required.into());
    }
    table.insert("additionalProperties".into(), false.into());
    table
}
