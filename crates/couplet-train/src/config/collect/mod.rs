//! Deserialisation that reports every bad key at once.
//!
//! serde stops at the first error and, inside tagged enums, forgets where it was. So each
//! error is traced to its key by trying the table with that key changed or taken out,
//! the key is set aside, and reading goes on. Configs are small; this costs milliseconds.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{ConfigIssue, UNKNOWN_KEY};

/// Rounds after which a table is given up: more mistakes than a person would read.
const MAX_PROBLEMS: usize = 64;
/// Keys that choose an enum's variant.
const TAGS: [&str; 2] = ["kind", "source"];
/// Stand-ins for a value, to see whether an error speaks of it.
const SENTINEL_INTEGER: i64 = -918_273_645;
const SENTINEL_FLOAT: f64 = -918_273.625;
const SENTINEL_STRING: &str = "\u{1}sentinel\u{1}";

/// A table read as far as it could be.
pub(super) struct Collected<T> {
    /// `None` if some mistake leaves no way to read on.
    pub value: Option<T>,
    pub problems: Vec<ConfigIssue>,
}

type Path = Vec<Step>;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads `table` as `T`. With problems, the value has defaults or stand-ins in the place
/// of what was wrong.
pub(super) fn collect<T: DeserializeOwned>(table: Table) -> Collected<T> {
    let mut document = Value::Table(table);
    let mut problems: Vec<ConfigIssue> = Vec::new();
    for _ in 0..MAX_PROBLEMS {
        let message = match T::deserialize(document.clone()) {
            Ok(value) => {
                return Collected {
                    value: Some(value),
                    problems,
                };
            }
            Err(error) => error.message().to_string(),
        };
        let attempt = |document: &Value| error_of::<T>(document);
        let next = match quoted_after(&message, "missing field ") {
            Some(field) => mend_missing(&document, field, &message, &attempt, &mistakes_of::<T>),
            None => Some(mend_wrong(&document, &message, &attempt, &mistakes_of::<T>)),
        };
        let Some(mend) = next else {
            problems.push(ConfigIssue::new("", message));
            break;
        };
        // A key set aside before may now be missed: that is no second mistake.
        // Nor is what a table lacks that is missing as a whole.
        if !problems
            .iter()
            .any(|known| covers(&known.key, &mend.problem.key))
        {
            problems.push(mend.problem);
        }
        match mend.document {
            Some(mended) => document = mended,
            None => break,
        }
    }
    Collected {
        value: None,
        problems,
    }
}

/// Whether `key` is `known` or lies in its table.
fn covers(known: &str, key: &str) -> bool {
    key.strip_prefix(known)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A problem with the document as it reads once the problem is set aside, if it can be.
struct Mend {
    problem: ConfigIssue,
    document: Option<Value>,
}

fn error_of<T: DeserializeOwned>(document: &Value) -> Option<String> {
    let error = T::deserialize(document.clone()).err()?;
    Some(error.message().to_string())
}

fn mistakes_of<T: DeserializeOwned>(document: &Value) -> usize {
    match document {
        Value::Table(table) => collect::<T>(table.clone()).problems.len(),
        _ => usize::MAX,
    }
}

/// Finds the table that lacks `field` and fills the gap with a value that is accepted.
fn mend_missing(
    document: &Value,
    field: &str,
    message: &str,
    attempt: &dyn Fn(&Value) -> Option<String>,
    mistakes: &dyn Fn(&Value) -> usize,
) -> Option<Mend> {
    let mut tables = Vec::new();
    walk(document, &mut Vec::new(), &mut |path, value| {
        if value
            .as_table()
            .is_some_and(|table| !table.contains_key(field))
        {
            tables.push(path.clone());
        }
    });
    // Each with the words in which serde would refuse it.
    let text = || Value::String("1 epoch".into());
    let fillers: [(Value, &[&str]); 6] = [
        (Value::Integer(1), &["integer `1`"]),
        (text(), &["1 epoch"]),
        (Value::Table(Table::new()), &["map"]),
        (
            Value::Array(vec![Value::Float(0.5); 2]),
            &["sequence", "floating point `0.5`"],
        ),
        (Value::Array(vec![text()]), &["sequence", "1 epoch"]),
        (Value::Boolean(false), &["boolean `false`"]),
    ];
    let misplaced = format!("unknown field `{field}`");
    for path in &tables {
        for (filler, refusals) in &fillers {
            let mut filled = document.clone();
            let table = get_mut(&mut filled, path).and_then(Value::as_table_mut)?;
            table.insert(field.to_string(), filler.clone());
            let after = attempt(&filled);
            let mut key = path.clone();
            key.push(Step::Key(field.to_string()));
            if let Some(after) = after
                .as_deref()
                .filter(|a| a.starts_with("unknown variant `1 epoch`"))
            {
                return Some(Mend {
                    problem: ConfigIssue::new(&print(&key), explain_missing_tag(after)),
                    document: best_variant(&filled, &key, after, mistakes),
                });
            }
            let refused = after.as_ref().is_some_and(|after| {
                after == message
                    || after.starts_with(&misplaced)
                    || refusals.iter().any(|refusal| after.contains(refusal))
            });
            if !refused {
                return Some(Mend {
                    problem: ConfigIssue::new(&print(&key), "is missing"),
                    document: Some(filled),
                });
            }
        }
    }
    // No stand-in fits: say what is missing and stop here.
    Some(Mend {
        problem: ConfigIssue::new(field, "is missing"),
        document: None,
    })
}

/// Finds the key that an error speaks of and takes it out.
fn mend_wrong(
    document: &Value,
    message: &str,
    attempt: &dyn Fn(&Value) -> Option<String>,
    mistakes: &dyn Fn(&Value) -> usize,
) -> Mend {
    let path = find_unknown(document, message, attempt)
        .or_else(|| find_leaf(document, message, attempt))
        .unwrap_or_else(|| find_by_removal(document, message, attempt));
    let problem = ConfigIssue::new(&print(&path), explain(message));
    if message.starts_with("unknown variant") {
        return Mend {
            document: best_variant(document, &path, message, mistakes),
            problem,
        };
    }
    let mut mended = document.clone();
    let removed = remove(&mut mended, &path);
    Mend {
        problem,
        document: removed.then_some(mended),
    }
}

/// The key of an "unknown field" error: one of that name whose removal changes the error.
fn find_unknown(
    document: &Value,
    message: &str,
    attempt: &dyn Fn(&Value) -> Option<String>,
) -> Option<Path> {
    let field = quoted_after(message, "unknown field ")?;
    let mut candidates = Vec::new();
    walk(document, &mut Vec::new(), &mut |path, _| {
        if path.last() == Some(&Step::Key(field.to_string())) {
            candidates.push(path.clone());
        }
    });
    if let [only] = &candidates[..] {
        return Some(only.clone());
    }
    candidates.into_iter().find(|path| {
        // Renaming shows whether it is this one that the error speaks of.
        let mut renamed = document.clone();
        let Some((Step::Key(_), parent)) = path.split_last() else {
            return false;
        };
        let Some(table) = get_mut(&mut renamed, parent).and_then(Value::as_table_mut) else {
            return false;
        };
        if let Some(value) = table.remove(field) {
            table.insert(SENTINEL_STRING.into(), value);
        }
        attempt(&renamed).is_some_and(|after| after.contains(SENTINEL_STRING))
    })
}

/// The leaf whose value the error quotes: with a stand-in, the error quotes the stand-in.
fn find_leaf(
    document: &Value,
    message: &str,
    attempt: &dyn Fn(&Value) -> Option<String>,
) -> Option<Path> {
    let mut leaves = Vec::new();
    walk(document, &mut Vec::new(), &mut |path, value| {
        let swap = match value {
            Value::String(text) => Some((
                Value::String(SENTINEL_STRING.into()),
                SENTINEL_STRING.to_string(),
                text.clone(),
            )),
            Value::Integer(number) => Some((
                Value::Integer(SENTINEL_INTEGER),
                SENTINEL_INTEGER.to_string(),
                number.to_string(),
            )),
            Value::Float(number) => Some((
                Value::Float(SENTINEL_FLOAT),
                SENTINEL_FLOAT.to_string(),
                number.to_string(),
            )),
            Value::Boolean(b) => Some((Value::Boolean(!b), (!b).to_string(), b.to_string())),
            _ => None,
        };
        if let Some(swap) = swap {
            leaves.push((path.clone(), swap));
        }
    });
    leaves
        .into_iter()
        .find(|(path, (stand_in, shown, original))| {
            let mut swapped = document.clone();
            if let Some(slot) = get_mut(&mut swapped, path) {
                *slot = stand_in.clone();
            }
            attempt(&swapped).is_some_and(|after| {
                let escaped = format!("{shown:?}").trim_matches('"').to_string();
                let after = after.replace(&escaped, original).replace(shown, original);
                // The swapped error must have changed, and only in the value it quotes.
                after == *message && attempt(&swapped).as_deref() != Some(message)
            })
        })
        .map(|(path, _)| path)
}

/// The innermost key whose removal changes the error.
fn find_by_removal(
    document: &Value,
    message: &str,
    attempt: &dyn Fn(&Value) -> Option<String>,
) -> Path {
    let mut path = Vec::new();
    loop {
        let children: Vec<Step> = match get(document, &path) {
            Some(Value::Table(table)) => table
                .keys()
                .filter(|key| !TAGS.contains(&key.as_str()))
                .map(|key| Step::Key(key.clone()))
                .collect(),
            Some(Value::Array(items)) if items.iter().any(Value::is_table) => {
                (0..items.len()).map(Step::Index).collect()
            }
            _ => return path,
        };
        let culprit = children.into_iter().find(|child| {
            let mut without = document.clone();
            let mut child_path = path.clone();
            child_path.push(child.clone());
            remove(&mut without, &child_path);
            attempt(&without).as_deref() != Some(message)
        });
        match culprit {
            Some(child) => path.push(child),
            None => return path,
        }
    }
}

/// Replaces an unknown variant by the known one under which the fewest mistakes remain.
fn best_variant(
    document: &Value,
    path: &Path,
    message: &str,
    mistakes: &dyn Fn(&Value) -> usize,
) -> Option<Value> {
    let expected = message.split_once("expected").map_or("", |(_, list)| list);
    let variants = expected.split('`').skip(1).step_by(2);
    variants
        .filter_map(|variant| {
            let mut replaced = document.clone();
            *get_mut(&mut replaced, path)? = Value::String(variant.to_string());
            Some(replaced)
        })
        .min_by_key(mistakes)
}

fn explain_missing_tag(message: &str) -> String {
    let expected = message.split_once("expected").map_or("", |(_, list)| list);
    format!("is missing; expected{expected}")
}

/// serde's words in a config's.
fn explain(message: &str) -> String {
    if quoted_after(message, "unknown field ").is_some() {
        return match message.split_once("expected ") {
            Some((_, list)) => format!("{UNKNOWN_KEY}; expected {list}"),
            None => UNKNOWN_KEY.to_string(),
        };
    }
    message
        .replace("unknown variant", "unknown value")
        .replace("expected f64", "expected a number")
        .replace("expected f32", "expected a number")
        .replace("expected usize", "expected a whole number")
        .replace("expected u64", "expected a whole number")
        .replace("expected struct", "expected the table of")
}

/// What stands in backquotes behind `prefix`.
fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(prefix)?.strip_prefix('`')?;
    rest.split_once('`').map(|(quoted, _)| quoted)
}

fn walk(value: &Value, path: &mut Path, visit: &mut dyn FnMut(&Path, &Value)) {
    visit(path, value);
    match value {
        Value::Table(table) => {
            for (key, child) in table {
                path.push(Step::Key(key.clone()));
                walk(child, path, visit);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                path.push(Step::Index(index));
                walk(child, path, visit);
                path.pop();
            }
        }
        _ => {}
    }
}

fn get<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(*index),
    })
}

fn get_mut<'a>(value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(*index),
    })
}

/// Takes a key or element out. An element of a plain list takes its whole list along:
/// what is left of a pair is no pair.
fn remove(document: &mut Value, path: &[Step]) -> bool {
    let Some((last, parent)) = path.split_last() else {
        return false;
    };
    let in_plain_list = matches!(last, Step::Index(_))
        && get(document, path).is_some_and(|element| !element.is_table());
    if in_plain_list {
        return remove(document, parent);
    }
    match (last, get_mut(document, parent)) {
        (Step::Key(key), Some(Value::Table(table))) => table.remove(key).is_some(),
        (Step::Index(index), Some(Value::Array(items))) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

fn print(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests;
