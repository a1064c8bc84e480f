//! Every key of a config with its type, default and meaning: for `docs/config.md` and the terminal.

use serde_json::Value as Json;

use super::super::dataset_file::dataset_schema;
use super::shape::{Bounds, Choice, ConfigSchema, Key, Shape, Variant};
use crate::nearest::ranked;
use crate::sweep::sweep_schema;

/// One key of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// From the file's root, such as `optimizer.group[].params`.
    pub path: String,
    /// What must be so for the table to have the key, such as `source = "csv"`.
    pub when: Option<String>,
    /// What the value may be.
    pub kind: String,
    /// As TOML; `None` if the key has none.
    pub default: Option<String>,
    /// When the key must be given: `required`, with what else may supply it.
    pub required: Option<&'static str>,
    /// What the key does.
    pub text: String,
    /// Its words, each with its meaning.
    pub choices: Vec<(String, String)>,
}

impl KeyEntry {
    /// The first sentence of its meaning.
    pub fn summary(&self) -> &str {
        let end = self.text.find(". ").map_or(self.text.len(), |at| at + 1);
        &self.text[..end]
    }

    /// Its default, or what else is known of a file without it.
    pub fn default_or_required(&self) -> &str {
        (self.default.as_deref()).or(self.required).unwrap_or("")
    }
}

/// Every key of a config, in the order of its tables.
pub fn keys() -> Vec<KeyEntry> {
    let mut list = Listing {
        schema: ConfigSchema::run(),
        sections: Vec::new(),
    };
    let root = &list.schema.root;
    list.section("", "", root);
    let sections = list.sections.into_iter();
    let parts = sections.flat_map(|section| section.parts);
    parts.flat_map(|part| part.entries).collect()
}

/// The keys that a mistaken path is most like.
pub fn nearest_keys(path: &str, count: usize) -> Vec<String> {
    let keys = keys();
    let paths = keys.iter().map(|key| key.path.as_str());
    let near = ranked(path, paths, count);
    near.into_iter().map(str::to_string).collect()
}

/// The reference in Markdown: what `docs/config.md` holds.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_string();
    print_sections(ConfigSchema::run(), "Top level", &mut text);
    text.push_str(DATASETS);
    print_sections(dataset_schema(), "A dataset's keys", &mut text);
    text.push_str(SWEEPS);
    print_sections(sweep_schema(), "A sweep's keys", &mut text);
    text
}

/// - top: the title of the keys that are in no table.
fn print_sections(schema: &'static ConfigSchema, top: &str, text: &mut String) {
    let mut list = Listing {
        schema,
        sections: Vec::new(),
    };
    list.section("", "", &schema.root);
    for section in &list.sections {
        section.print(top, text);
    }
}

const DATASETS: &str = "
# Dataset files

Every key of a dataset file, which `--dataset`, `dataset` of `[[eval]]` and `[classify]` read. Its schema is
[dataset.schema.json](dataset.schema.json), which `couplet config schema --dataset` prints.
";

const SWEEPS: &str = "
# Sweep files

Every key of the file that `couplet sweep` reads. Its schema is [sweep.schema.json](sweep.schema.json), which
`couplet config schema --sweep` prints.
";

const INTRODUCTION: &str = "\
# Config reference

Every key of the TOML file that `couplet train` reads. `couplet config keys [PREFIX]` lists them in a
terminal. Generated from the code by `couplet config reference > docs/config.md`; do not edit.

An editor with a TOML language server (Taplo, Even Better TOML) completes and checks the keys of a file that
begins with the path of [config.schema.json](config.schema.json), which `couplet config schema` prints, as those of
`configs/` do:

```toml
#:schema ../docs/config.schema.json
```

`required` keys have no default. A *length* is a string of a
number and a unit: `\"2000 steps\"`, `\"1 epoch\"`, `\"1M samples\"`, `\"3 %\"` (of the schedule) or
`\"10 minutes\"`.
";

/// A table of the config.
struct Section {
    title: String,
    text: String,
    parts: Vec<Part>,
}

/// The keys that a table always has, or has as one of its variants.
struct Part {
    when: Option<String>,
    text: String,
    entries: Vec<KeyEntry>,
}

struct Listing {
    schema: &'static ConfigSchema,
    sections: Vec<Section>,
}

impl Listing {
    /// Adds the table at `path` and those in it.
    fn section(&mut self, path: &str, text: &str, shape: &'static Shape) {
        let at = self.sections.len();
        self.sections.push(Section {
            title: path.to_string(),
            text: text.to_string(),
            parts: Vec::new(),
        });
        let mut inner: Vec<(String, &'static Key)> = Vec::new();
        let parts = match self.schema.resolve(shape) {
            Shape::Table(keys) => {
                inner.extend(keys.iter().map(|key| (join(path, &key.name), key)));
                vec![self.part(path, None, "", keys.iter())]
            }
            Shape::Variants { tag, variants } => self.variants(path, tag, variants, &mut inner),
            _ => unreachable!("sections are of tables"),
        };
        self.sections[at].parts = parts;
        for (path, key) in inner {
            let (shape, path) = match self.schema.resolve(&key.shape) {
                Shape::List { item, .. } => (self.schema.resolve(item), format!("{path}[]")),
                shape => (shape, path),
            };
            // A mix holds no mixes.
            let is_again = path.ends_with("mix[].mix[]");
            if matches!(shape, Shape::Table(_) | Shape::Variants { .. }) && !is_again {
                self.section(&path, &key.text, shape);
            }
        }
    }

    /// The keys of all variants, and those of each.
    fn variants(
        &self,
        path: &str,
        tag: &str,
        variants: &'static [Variant],
        inner: &mut Vec<(String, &'static Key)>,
    ) -> Vec<Part> {
        let in_all = |key: &&Key| variants.iter().all(|own| own.keys.contains(key));
        let is_shown = |own: &&Variant| !(own.value == "mix" && path.ends_with("mix[]"));
        let shared: Vec<&'static Key> = variants[0].keys.iter().filter(in_all).collect();
        let mut first = self.part(path, None, "", shared.iter().copied());
        let shown = variants.iter().filter(is_shown);
        let words = shown
            .clone()
            .map(|own| (own.value.clone(), own.text.clone()));
        first.entries.insert(
            0,
            KeyEntry {
                path: join(path, tag),
                when: None,
                kind: one_of(shown.clone().map(|own| own.value.as_str())),
                default: None,
                required: Some(required(&join(path, tag))),
                text: "Selects the variant; the other keys of this table depend on it.".into(),
                choices: words.collect(),
            },
        );
        inner.extend(shared.iter().map(|key| (join(path, &key.name), *key)));
        let mut parts = vec![first];
        for variant in shown {
            let own = variant.keys.iter().filter(|key| !in_all(key));
            inner.extend(own.clone().map(|key| (join(path, &key.name), key)));
            let when = format!("{tag} = \"{}\"", variant.value);
            let part = self.part(path, Some(when), &variant.text, own);
            if !part.entries.is_empty() {
                parts.push(part);
            }
        }
        inner.dedup_by(|(a, _), (b, _)| a == b);
        parts
    }

    fn part(
        &self,
        path: &str,
        when: Option<String>,
        text: &str,
        keys: impl Iterator<Item = &'static Key>,
    ) -> Part {
        let entries = keys
            .map(|key| self.entry(path, when.clone(), key))
            .collect();
        Part {
            when,
            text: text.to_string(),
            entries,
        }
    }

    fn entry(&self, path: &str, when: Option<String>, key: &'static Key) -> KeyEntry {
        let path = join(path, &key.name);
        let shape = self.schema.resolve(&key.shape);
        // Those of a table are those of its keys.
        let is_plain = !matches!(shape, Shape::Table(_));
        let default = key.default.as_ref().filter(|_| is_plain).map(toml_text);
        let mut text = key.text.clone();
        if key.may_change {
            text.push_str(" May change when a run is resumed.");
        }
        let words = |choice: &Choice| (choice.value.clone(), choice.text.clone());
        KeyEntry {
            when,
            kind: self.kind(shape),
            default,
            required: key.is_required.then(|| required(&path)),
            text,
            choices: match shape {
                Shape::Choice(choices) => choices.iter().map(words).collect(),
                _ => Vec::new(),
            },
            path,
        }
    }

    fn kind(&self, shape: &Shape) -> String {
        match self.schema.resolve(shape) {
            Shape::Text(text) => match text.notation.as_deref() {
                Some("Duration") => "length".into(),
                Some(_) => text.text.split_once(": ").map_or_else(
                    || "string".into(),
                    |(_, notation)| notation.trim_end_matches('.').to_string(),
                ),
                None if text.is_one_character => "one character".into(),
                None => "string".into(),
            },
            Shape::Integer(bounds) => number("integer", *bounds),
            Shape::Number(bounds) => number("number", *bounds),
            Shape::Boolean => "boolean".into(),
            Shape::Choice(choices) => one_of(choices.iter().map(|own| own.value.as_str())),
            Shape::List { item, least, most } => {
                let item = self.kind(item);
                let (name, range) = item.split_once(", ").unwrap_or((&item, ""));
                let range = if range.is_empty() {
                    String::new()
                } else {
                    format!(", each {range}")
                };
                match most {
                    Some(most) if most == least => format!("{most} {name}s{range}"),
                    _ => format!("list of {name}s{range}"),
                }
            }
            Shape::Table(_) | Shape::Variants { .. } | Shape::Open => "table".into(),
            Shape::Either(shapes) => {
                let all: Vec<String> = shapes.iter().map(|own| self.kind(own)).collect();
                all.join(" or ")
            }
            Shape::Link(_) => unreachable!("links are resolved"),
        }
    }
}

/// What a key says that has no default.
fn required(path: &str) -> &'static str {
    if path.starts_with("model.") {
        return "required without `preset` or `weights`";
    }
    match path {
        "data" | "data.train" | "data.train.source" => "required without `[classify]`",
        _ => "required",
    }
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`\"{word}\"`")).collect();
    words.join(", ")
}

fn number(name: &str, bounds: Bounds) -> String {
    let low = (bounds.least.map(|least| format!("at least {least}")))
        .or_else(|| bounds.above.map(|above| format!("above {above}")));
    // Those of a machine's integers are no news.
    let most = bounds.most.filter(|most| *most < f64::from(u32::MAX));
    let high = (most.map(|most| format!("at most {most}")))
        .or_else(|| bounds.below.map(|below| format!("below {below}")));
    match (low, high) {
        (None, None) => name.to_string(),
        (Some(one), None) | (None, Some(one)) => format!("{name}, {one}"),
        (Some(low), Some(high)) => format!("{name}, {low} and {high}"),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

/// A default as TOML writes it.
fn toml_text(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_text).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(table) => {
            let table = table.iter();
            let table = table.map(|(key, value)| format!("{key} = {}", toml_text(value)));
            format!("{{ {} }}", table.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

impl Section {
    fn print(&self, top: &str, text: &mut String) {
        match self.title.strip_suffix("[]") {
            _ if self.title.is_empty() => text.push_str(&format!("\n## {top}\n")),
            Some(list) => text.push_str(&format!("\n## `[[{list}]]`\n")),
            None => text.push_str(&format!("\n## `[{}]`\n", self.title)),
        }
        if !self.text.is_empty() {
            text.push_str(&format!("\n{}\n", self.text));
        }
        for part in &self.parts {
            if let Some(when) = &part.when {
                text.push_str(&format!("\n### `{when}`\n\n{}\n", part.text));
            }
            if part.entries.is_empty() {
                continue;
            }
            text.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
            for entry in &part.entries {
                text.push_str(&entry.row());
            }
        }
    }
}

impl KeyEntry {
    fn row(&self) -> String {
        let default = match (&self.default, self.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, Some(required)) => required.to_string(),
            (None, None) => String::new(),
        };
        let mut meaning = self.text.clone();
        for (word, text) in self.choices.iter().filter(|(_, text)| !text.is_empty()) {
            meaning.push_str(&format!("<br>`{word}`: {text}"));
        }
        let cells = [&format!("`{}`", self.path), &self.kind, &default, &meaning];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        format!("| {} |\n", cells.join(" | "))
    }
}
