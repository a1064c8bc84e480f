//! The tables of a config that have a key of some name.

use toml::{Table, Value};

use super::super::schema::{ConfigSchema, Key, Shape, Variant};

/// A step from a table or list to what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

/// A table that has a key of the name that was asked for.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The path of the table.
    pub table: Vec<Step>,
    pub accepts: Accepts<'a>,
    pub is_required: bool,
    /// Whether the table is in the config, or is the config.
    pub exists: bool,
    /// Whether the table has the key already.
    pub is_taken: bool,
}

/// The values of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Accepts<'a> {
    Shape(&'a Shape),
    /// It is the tag of these.
    Tag(&'a [Variant]),
}

/// Every table of a config that has a key `name`. Of a list, every table that the config has, or one
/// if the config has none and `absent_lists` is set.
pub(super) fn places<'a>(
    schema: &'a ConfigSchema,
    config: &Table,
    name: &str,
    absent_lists: bool,
) -> Vec<Place<'a>> {
    let mut search = Search {
        schema,
        name,
        absent_lists,
        links: Vec::new(),
        path: Vec::new(),
        found: Vec::new(),
    };
    search.visit(&schema.root, Some(&Value::Table(config.clone())));
    search.found
}

struct Search<'a, 'n> {
    schema: &'a ConfigSchema,
    name: &'n str,
    absent_lists: bool,
    /// The named shapes around the current one that the config does not have: a mix may hold a mix.
    links: Vec<&'a str>,
    path: Vec<Step>,
    found: Vec<Place<'a>>,
}

impl<'a> Search<'a, '_> {
    /// - given: what the config has at the path.
    fn visit(&mut self, shape: &'a Shape, given: Option<&Value>) {
        if let (Shape::Link(name), None) = (shape, given) {
            if self.links.contains(&name.as_str()) {
                return;
            }
            self.links.push(name);
            self.visit_resolved(self.schema.resolve(shape), given);
            self.links.pop();
        } else {
            self.visit_resolved(self.schema.resolve(shape), given);
        }
    }

    fn visit_resolved(&mut self, shape: &'a Shape, given: Option<&Value>) {
        match (shape, given) {
            (Shape::Table(keys), None | Some(Value::Table(_))) => {
                let keys: Vec<&Key> = keys.iter().collect();
                self.table(&keys, given.and_then(Value::as_table));
            }
            (Shape::Variants { tag, variants }, None | Some(Value::Table(_))) => {
                let table = given.and_then(Value::as_table);
                if tag == self.name {
                    self.found(Accepts::Tag(variants), true, table);
                }
                let value = table.and_then(|table| table.get(tag)?.as_str());
                let chosen = variants
                    .iter()
                    .find(|own| Some(own.value.as_str()) == value);
                let keys: Vec<&Key> = match chosen {
                    Some(variant) => variant.keys.iter().collect(),
                    None => variants.iter().flat_map(|own| &own.keys).collect(),
                };
                self.table(&keys, table);
            }
            (Shape::List { item, .. }, Some(Value::Array(items))) => {
                for (at, value) in items.iter().enumerate() {
                    self.path.push(Step::Item(at));
                    self.visit(item, Some(value));
                    self.path.pop();
                }
            }
            (Shape::List { item, .. }, None) if self.absent_lists => {
                self.path.push(Step::Item(0));
                self.visit(item, None);
                self.path.pop();
            }
            _ => {}
        }
    }

    fn table(&mut self, keys: &[&'a Key], given: Option<&Table>) {
        for key in keys {
            if key.name == self.name {
                self.found(Accepts::Shape(&key.shape), key.is_required, given);
            }
            self.path.push(Step::Key(key.name.clone()));
            self.visit(&key.shape, given.and_then(|table| table.get(&key.name)));
            self.path.pop();
        }
    }

    fn found(&mut self, accepts: Accepts<'a>, is_required: bool, given: Option<&Table>) {
        // Variants share keys.
        if self.found.iter().any(|place| place.table == self.path) {
            return;
        }
        self.found.push(Place {
            table: self.path.clone(),
            accepts,
            is_required,
            exists: given.is_some(),
            is_taken: given.is_some_and(|table| table.contains_key(self.name)),
        });
    }
}

/// Tables as their headers name them: `[model.text], [log] or [[eval]]`.
pub(super) fn headers<'a>(tables: impl IntoIterator<Item = &'a [Step]>) -> String {
    let mut names: Vec<String> = Vec::new();
    for table in tables {
        let name = header(table);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}

fn header(table: &[Step]) -> String {
    let names = table.iter().filter_map(|step| match step {
        Step::Key(name) => Some(name.as_str()),
        Step::Item(_) => None,
    });
    let names = names.collect::<Vec<_>>().join(".");
    match table.last() {
        None => "the top of the file, above all tables".into(),
        Some(Step::Key(_)) => format!("[{names}]"),
        Some(Step::Item(_)) => format!("[[{names}]]"),
    }
}

/// The path of a key as messages write it: `eval[0].every`.
pub(super) fn key_path(table: &[Step], name: &str) -> String {
    let mut path = String::new();
    for step in table {
        match step {
            Step::Key(name) if path.is_empty() => path.push_str(name),
            Step::Key(name) => path.push_str(&format!(".{name}")),
            Step::Item(at) => path.push_str(&format!("[{at}]")),
        }
    }
    super::keys::join(&path, name)
}
