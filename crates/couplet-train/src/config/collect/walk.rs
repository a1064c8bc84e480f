//! A table held against its schema.

use toml::{Table, Value};

use super::super::issue::ConfigIssue;
use super::super::schema::{ConfigSchema, Key, Shape, Variant};
use super::fit;
use super::keys::{Known, is_same_key, is_within, join};
use super::messages::{self, found};
use super::places::{headers, key_path, places};
use super::stand_in::stand_in;
use crate::nearest::nearest;

/// Collects what is wrong, and returns of each value what is sound.
pub(super) struct Walk<'a> {
    schema: &'a ConfigSchema,
    known: &'a Known<'a>,
    pub issues: Vec<ConfigIssue>,
    pub doubtful: Vec<String>,
}

impl<'a> Walk<'a> {
    pub fn new(schema: &'a ConfigSchema, known: &'a Known<'a>) -> Self {
        Self {
            schema,
            known,
            issues: Vec::new(),
            doubtful: Vec::new(),
        }
    }

    /// The value with which reading continues: itself, with wrong parts replaced. `None` if it does not fit.
    pub fn value(&mut self, shape: &'a Shape, value: &Value, path: &str) -> Option<Value> {
        match (self.schema.resolve(shape), value) {
            (Shape::Table(keys), Value::Table(given)) => {
                let keys: Vec<&Key> = keys.iter().collect();
                Some(Value::Table(self.table(&keys, given, path, None)))
            }
            (Shape::Variants { tag, variants }, Value::Table(given)) => {
                Some(Value::Table(self.variants(tag, variants, given, path)))
            }
            (Shape::List { item, least, most }, Value::Array(items)) => {
                self.list(item, (*least, *most), items, path)
            }
            (Shape::Either(shapes), value) => {
                let schema = self.schema;
                let fits = |shape: &&Shape| fit::is_of_type(schema, shape, value);
                match shapes.iter().find(fits) {
                    Some(shape) => self.value(shape, value, path),
                    None => self.refuse(path, messages::wrong_type(schema, shape, value)),
                }
            }
            (shape, value) => match fit::problem(self.schema, shape, value) {
                None => Some(value.clone()),
                Some(message) => self.refuse(path, message),
            },
        }
    }

    /// Notes a mistake, unless the key was misspelt: then it may be another key that was meant.
    fn refuse(&mut self, path: &str, message: String) -> Option<Value> {
        if !self.known.renamed.iter().any(|key| key == path) {
            self.issues.push(ConfigIssue::new(path, message));
        }
        self.doubtful.push(path.to_string());
        None
    }

    fn list(
        &mut self,
        item: &'a Shape,
        (least, most): (usize, Option<usize>),
        items: &[Value],
        path: &str,
    ) -> Option<Value> {
        if items.len() < least || most.is_some_and(|most| items.len() > most) {
            return self.refuse(path, messages::wrong_length(least, most, items.len()));
        }
        let is_table = fit::is_table(self.schema.resolve(item));
        let mut sound = Vec::new();
        for (at, value) in items.iter().enumerate() {
            let replaced = self.value(item, value, &format!("{path}[{at}]"));
            // Tables keep their places; what is left of a pair of numbers is no pair.
            sound.push(replaced.or_else(|| is_table.then(|| stand_in(self.schema, item))));
        }
        let sound: Option<Vec<Value>> = sound.into_iter().collect();
        if sound.is_none() {
            self.doubtful.push(path.to_string());
        }
        sound.map(Value::Array)
    }

    /// - tag: the key that chose this variant, and its value.
    fn table(
        &mut self,
        keys: &[&'a Key],
        given: &Table,
        path: &str,
        tag: Option<(&str, &str)>,
    ) -> Table {
        let mut sound = Table::new();
        if let Some((tag, value)) = tag {
            sound.insert(tag.to_string(), value.into());
        }
        for (name, value) in given {
            if tag.is_some_and(|(tag, _)| tag == name) {
                continue;
            }
            let place = join(path, name);
            match keys.iter().find(|key| key.name == *name) {
                None => {
                    let names = keys.iter().map(|key| key.name.as_str());
                    let message = self.unknown_key((&place, name), names.collect(), tag);
                    self.issues.push(ConfigIssue::unknown(&place, message));
                }
                Some(key) => {
                    let value = self.value(&key.shape, value, &place);
                    sound.extend(value.map(|value| (name.clone(), value)));
                }
            }
        }
        for key in keys.iter().filter(|key| key.is_required) {
            if sound.contains_key(&key.name) {
                continue;
            }
            if !given.contains_key(&key.name) {
                let (is_table, message) = messages::missing(self.schema, path, key);
                self.missing(&join(path, &key.name), is_table, &message);
            }
            sound.insert(key.name.clone(), stand_in(self.schema, &key.shape));
        }
        sound
    }

    /// - place: the key's path; names: those that its table knows.
    fn unknown_key(
        &self,
        (place, name): (&str, &str),
        names: Vec<&str>,
        tag: Option<(&str, &str)>,
    ) -> String {
        let mut known = places(self.schema, &Table::new(), name, true);
        // Another variant of the same table is no other place.
        known.retain(|own| !is_same_key(&key_path(&own.table, name), place));
        if known.is_empty() || nearest(name, names.iter().copied()).is_some() {
            return messages::unknown_key(name, names, tag);
        }
        let tables = headers(known.iter().map(|place| &place.table[..]));
        format!("unknown key; `{name}` is a key of {tables}")
    }

    fn missing(&mut self, path: &str, is_table: bool, message: &str) {
        if !(self.known.partial).is_some_and(|table| is_within(path, table)) {
            self.issues
                .push(ConfigIssue::missing(path, is_table, message));
        }
        self.doubtful.push(path.to_string());
    }

    fn variants(&mut self, tag: &str, variants: &'a [Variant], given: &Table, path: &str) -> Table {
        let place = join(path, tag);
        let names = || variants.iter().map(|variant| variant.value.as_str());
        let chosen = match given.get(tag) {
            Some(Value::String(text)) if names().any(|name| name == text) => Some(text.as_str()),
            Some(Value::String(text)) => {
                self.refuse(&place, messages::unknown_value(text, names().collect()));
                nearest(text, names())
            }
            Some(other) => {
                let words = messages::one_of(&names().collect::<Vec<_>>());
                let message = format!("expected {words}, found {}", found(other));
                self.refuse(&place, message);
                None
            }
            None => {
                let words = messages::one_of(&names().collect::<Vec<_>>());
                self.missing(&place, false, &format!("is missing; set it to {words}"));
                None
            }
        };
        match variants
            .iter()
            .find(|own| Some(own.value.as_str()) == chosen)
        {
            Some(variant) => {
                let keys: Vec<&Key> = variant.keys.iter().collect();
                self.table(&keys, given, path, Some((tag, &variant.value)))
            }
            None => self.any_variant(tag, variants, given, path),
        }
    }

    /// A table of which nothing says which variant it is: its mistakes are those that it has
    /// in each.
    fn any_variant(
        &mut self,
        tag: &str,
        variants: &'a [Variant],
        given: &Table,
        path: &str,
    ) -> Table {
        let keys = || variants.iter().flat_map(|variant| &variant.keys);
        let mut sound: Vec<&String> = Vec::new();
        for (name, value) in given.iter().filter(|(name, _)| *name != tag) {
            let place = join(path, name);
            let mut own = keys().filter(|key| key.name == *name).peekable();
            match own.peek() {
                None => {
                    let names = keys().map(|key| key.name.as_str()).collect();
                    let message = self.unknown_key((&place, name), names, None);
                    self.issues.push(ConfigIssue::unknown(&place, message));
                }
                Some(first) => {
                    let first = &first.shape;
                    if own.any(|key| self.is_sound(&key.shape, value)) {
                        sound.push(name);
                    } else {
                        self.value(first, value, &place);
                    }
                }
            }
        }
        let in_variant = |variant: &Variant, name: &String| {
            let mut own = variant.keys.iter();
            own.any(|key| key.name == *name && self.is_sound(&key.shape, &given[name.as_str()]))
        };
        let held = |variant: &&Variant| {
            let held = sound.iter().filter(|name| in_variant(variant, name));
            held.count()
        };
        let best = variants.iter().rev().max_by_key(held);
        let best = best.expect("an enum has variants");
        let mut table = Table::from_iter([(tag.to_string(), best.value.as_str().into())]);
        let kept = sound.iter().filter(|name| in_variant(best, name));
        table.extend(kept.map(|name| ((*name).clone(), given[name.as_str()].clone())));
        for key in best.keys.iter().filter(|key| key.is_required) {
            if !table.contains_key(&key.name) {
                self.doubtful.push(join(path, &key.name));
                table.insert(key.name.clone(), stand_in(self.schema, &key.shape));
            }
        }
        table
    }

    pub fn is_sound(&self, shape: &'a Shape, value: &Value) -> bool {
        let mut apart = Walk::new(self.schema, self.known);
        apart.value(shape, value, "").is_some() && apart.issues.is_empty()
    }
}
