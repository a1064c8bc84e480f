//! Keys in a wrong table, such as those below a header that was forgotten. They are moved to the
//! table that lacks them, so that they are reported where they are and missed nowhere.

use toml::{Table, Value};

use super::super::issue::ConfigIssue;
use super::super::schema::{ConfigSchema, Key, Shape, Variant};
use super::fit;
use super::keys::{Known, is_within};
use super::messages;
use super::places::{Accepts, Place, Step, headers, key_path, places};
use super::spelling::{Respelled, respell};
use super::walk::Walk;
use crate::nearest::nearest;

/// Sets keys right that are in a wrong table or misspelt.
/// - partial: a table of which any key may be missing.
pub(in super::super) fn set_right(
    schema: &ConfigSchema,
    table: &mut Table,
    partial: Option<&str>,
) -> Vec<Respelled> {
    let mut all = relocate(schema, table, partial);
    all.extend(respell(schema, table));
    all
}

/// A key that its table does not have, or not with such a value.
struct Stray<'a> {
    table: Vec<Step>,
    name: String,
    /// What the table accepts under this name; `None` if nothing.
    accepts: Option<Accepts<'a>>,
}

fn relocate(schema: &ConfigSchema, config: &mut Table, partial: Option<&str>) -> Vec<Respelled> {
    let mut strays = Vec::new();
    find_strays(schema, &schema.root, config, &mut Vec::new(), &mut strays);
    let mut moved = Vec::new();
    for stray in strays {
        let Some(value) = table_at(config, &stray.table).and_then(|own| own.get(&stray.name))
        else {
            continue;
        };
        let value = value.clone();
        let all = places(schema, config, &stray.name, false);
        let free = all.into_iter().filter(|place| {
            !place.is_taken && place.table != stray.table && fits(schema, place, &value)
        });
        let free: Vec<Place> = free.collect();
        let is_missed = |place: &Place| {
            let key = key_path(&place.table, &stray.name);
            place.exists
                && place.is_required
                && !partial.is_some_and(|table| is_within(&key, table))
        };
        let ranks: [&dyn Fn(&Place) -> bool; 3] =
            [&is_missed, &|place| place.exists, &|place| !place.exists];
        let likely = ranks.iter().map(|rank| {
            let own = free.iter().filter(|place| rank(place));
            own.collect::<Vec<_>>()
        });
        let likely = likely.into_iter().find(|places| !places.is_empty());
        let likely = likely.unwrap_or_default();
        let tables = headers(likely.iter().map(|place| &place.table[..]));
        let message = match (stray.accepts, &likely[..]) {
            (_, []) => continue,
            (None, _) => format!("unknown key; move it to {tables}"),
            (Some(accepts), [_]) => {
                let Some(wrong) = wrong_value(schema, accepts, &value) else {
                    continue;
                };
                format!("{wrong}; did you mean `{}` of {tables}?", stray.name)
            }
            (Some(_), _) => continue,
        };
        let place = key_path(&stray.table, &stray.name);
        // A value that is wrong here is not moved to where it may be wrong too, unless it is missed.
        let target = match likely[..] {
            [only] if stray.accepts.is_none() || is_missed(only) => Some(only.table.clone()),
            _ => None,
        };
        if let Some(own) = table_at(config, &stray.table) {
            own.remove(&stray.name);
        }
        let right = target.and_then(|target| {
            let key = key_path(&target, &stray.name);
            let own = make_table_at(config, &target)?;
            own.insert(stray.name.clone(), value);
            Some(key)
        });
        let issue = match stray.accepts {
            None => ConfigIssue::unknown(&place, message),
            Some(_) => ConfigIssue::new(&place, message),
        };
        moved.push(Respelled {
            issue,
            right: right.unwrap_or(place),
        });
    }
    moved
}

/// What is wrong with a value; `None` if it is the misspelling of one that would be right.
fn wrong_value(schema: &ConfigSchema, accepts: Accepts, value: &Value) -> Option<String> {
    let words: Vec<&str> = match accepts {
        Accepts::Tag(variants) => variants.iter().map(|own| own.value.as_str()).collect(),
        Accepts::Shape(shape) => match schema.resolve(shape) {
            Shape::Choice(choices) => choices.iter().map(|own| own.value.as_str()).collect(),
            _ => Vec::new(),
        },
    };
    if let Some(text) = value.as_str()
        && !words.is_empty()
    {
        let is_near = nearest(text, words.iter().copied()).is_some();
        return (!is_near).then(|| messages::unknown_value(text, words));
    }
    match accepts {
        Accepts::Tag(_) => None,
        Accepts::Shape(shape) => Some(
            fit::problem(schema, schema.resolve(shape), value)
                .unwrap_or_else(|| messages::wrong_type(schema, shape, value)),
        ),
    }
}

/// Whether a value is one that a key may have.
fn fits(schema: &ConfigSchema, place: &Place, value: &Value) -> bool {
    match place.accepts {
        Accepts::Shape(shape) => fits_shape(schema, shape, value),
        Accepts::Tag(variants) => {
            let text = value.as_str();
            variants.iter().any(|own| Some(own.value.as_str()) == text)
        }
    }
}

/// Of a table it is enough that it is one: what is wrong in it is reported later.
fn fits_shape(schema: &ConfigSchema, shape: &Shape, value: &Value) -> bool {
    let has_tables = match value {
        Value::Table(_) => true,
        Value::Array(items) => items.iter().any(Value::is_table),
        _ => false,
    };
    if has_tables {
        return fit::is_of_type(schema, shape, value);
    }
    Walk::new(schema, &Known::default()).is_sound(shape, value)
}

fn find_strays<'a>(
    schema: &'a ConfigSchema,
    shape: &'a Shape,
    table: &Table,
    path: &mut Vec<Step>,
    out: &mut Vec<Stray<'a>>,
) {
    let (tag, keys): (Option<(&String, &[Variant])>, Vec<&Key>) = match schema.resolve(shape) {
        Shape::Table(keys) => (None, keys.iter().collect()),
        Shape::Variants { tag, variants } => {
            let value = table.get(tag).and_then(Value::as_str);
            let chosen = variants
                .iter()
                .find(|own| Some(own.value.as_str()) == value);
            let keys = match chosen {
                Some(variant) => variant.keys.iter().collect(),
                None => variants.iter().flat_map(|own| &own.keys).collect(),
            };
            (Some((tag, &variants[..])), keys)
        }
        _ => return,
    };
    for (name, value) in table {
        if let Some((tag, variants)) = tag
            && tag == name
        {
            let known = |text: &str| variants.iter().any(|own| own.value == text);
            if value.as_str().is_some_and(|text| !known(text)) {
                out.push(Stray {
                    table: path.clone(),
                    name: name.clone(),
                    accepts: Some(Accepts::Tag(variants)),
                });
            }
            continue;
        }
        let shapes = || keys.iter().filter(|key| key.name == *name);
        let own = shapes().find(|key| fits_shape(schema, &key.shape, value));
        let Some(key) = own else {
            out.push(Stray {
                table: path.clone(),
                name: name.clone(),
                accepts: shapes().next().map(|key| Accepts::Shape(&key.shape)),
            });
            continue;
        };
        path.push(Step::Key(name.clone()));
        match (value, schema.resolve(&key.shape)) {
            (Value::Table(table), shape) => find_strays(schema, shape, table, path, out),
            (Value::Array(items), Shape::List { item, .. }) => {
                for (at, value) in items.iter().enumerate() {
                    path.push(Step::Item(at));
                    if let Value::Table(table) = value {
                        find_strays(schema, item, table, path, out);
                    }
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}

fn table_at<'t>(config: &'t mut Table, path: &[Step]) -> Option<&'t mut Table> {
    let Some((Step::Key(first), rest)) = path.split_first() else {
        return path.is_empty().then_some(config);
    };
    let mut at = config.get_mut(first)?;
    for step in rest {
        at = match step {
            Step::Key(name) => at.as_table_mut()?.get_mut(name)?,
            Step::Item(item) => at.as_array_mut()?.get_mut(*item)?,
        };
    }
    at.as_table_mut()
}

/// As [`table_at`], with the tables that are missing on the way.
fn make_table_at<'t>(config: &'t mut Table, path: &[Step]) -> Option<&'t mut Table> {
    let empty = || Value::Table(Table::new());
    let mut steps = path.iter();
    let mut at = match steps.next() {
        None => return Some(config),
        Some(Step::Key(name)) => config.entry(name).or_insert_with(empty),
        Some(Step::Item(_)) => return None,
    };
    for step in steps {
        at = match step {
            Step::Key(name) => at.as_table_mut()?.entry(name).or_insert_with(empty),
            Step::Item(item) => at.as_array_mut()?.get_mut(*item)?,
        };
    }
    at.as_table_mut()
}
