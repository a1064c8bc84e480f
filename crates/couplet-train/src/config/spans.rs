//! Where the keys of a config are written: in its file, or in the arguments of `--set`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Table;
use toml::de::{DeTable, DeValue};

use super::collect::{is_within, join};
use super::issue::{ConfigError, ConfigIssue, IssueKind};
use super::place::Place;

/// What stands before a pair on the command line.
const SET: &str = "--set ";
/// Errors of syntax that are shown at once: one often brings others.
const MAX_SYNTAX_ERRORS: usize = 5;

/// The bytes of a key and of its value.
#[derive(Debug, Clone)]
struct KeySpans {
    key: Range<usize>,
    /// Of a table with a header, the header.
    value: Range<usize>,
}

/// A text with its keys by their paths.
#[derive(Debug, Clone)]
struct Document {
    file: Option<Arc<PathBuf>>,
    text: Arc<str>,
    spans: HashMap<String, KeySpans>,
    /// The key that an argument sets.
    set_key: String,
}

/// A config's file and the `--set` arguments that change it.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    path: PathBuf,
    file: Document,
    set: Vec<Document>,
}

impl Sources {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// If it cannot be read or is not TOML.
    pub fn read(path: &Path) -> Result<(Table, Self), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(path, text.strip_prefix('\u{feff}').unwrap_or(&text))
    }

    /// As [`Self::read`], of a text.
    /// - path: what the text is called in errors.
    ///
    /// # Errors
    /// If the text is not TOML.
    pub fn parse(path: &Path, text: &str) -> Result<(Table, Self), ConfigError> {
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(syntax(path, text, &errors));
        }
        let parsed = text.parse::<Table>();
        let table = parsed.map_err(|error| syntax(path, text, &[error]))?;
        let mut spans = HashMap::new();
        collect_spans(document.get_ref(), "", 0, &mut spans);
        let file = Document {
            file: Some(Arc::new(path.to_path_buf())),
            text: text.into(),
            spans,
            set_key: String::new(),
        };
        let sources = Self {
            path: path.to_path_buf(),
            file,
            set: Vec::new(),
        };
        Ok((table, sources))
    }

    /// Of a config that is in no file.
    /// - path: what it is called in errors.
    pub fn in_code(path: &Path) -> Self {
        let file = Document {
            file: None,
            text: "".into(),
            spans: HashMap::new(),
            set_key: String::new(),
        };
        Self {
            path: path.to_path_buf(),
            file,
            set: Vec::new(),
        }
    }

    /// Adds `key=value` pairs of `--set`.
    pub fn with_set(mut self, pairs: &[String]) -> Self {
        self.set
            .extend(pairs.iter().map(|pair| Document::of_pair(pair)));
        self
    }

    /// All mistakes, each with its place, in the order of the file and the arguments.
    /// - moved: keys as the file has them, and the paths by which mistakes name them.
    pub fn problems(self, issues: Vec<ConfigIssue>, moved: &[(String, String)]) -> ConfigError {
        let mut placed: Vec<(usize, ConfigIssue)> = Vec::new();
        for mut issue in issues {
            let rank = if issue.place.is_some() {
                // Of another file.
                usize::MAX - 1
            } else {
                let found = self.locate(&issue, moved);
                let found = found.filter(|(document, _)| !document.text.is_empty());
                issue.place = found.map(|(document, span)| document.place(span));
                found_rank(&self, &issue)
            };
            placed.push((rank, issue));
        }
        placed.sort_by_key(|(rank, issue)| {
            let span = issue.place.as_ref().map(|place| place.span.start);
            (*rank, span.unwrap_or(0))
        });
        ConfigError::Problems {
            path: self.path,
            problems: placed.into_iter().map(|(_, issue)| issue).collect(),
        }
    }

    /// The text that a mistake is in, and its part.
    fn locate(
        &self,
        issue: &ConfigIssue,
        moved: &[(String, String)],
    ) -> Option<(&Document, Range<usize>)> {
        if issue.key.is_empty() {
            return None;
        }
        let key = as_written(&issue.key, moved);
        let latest = || self.set.iter().rev();
        let documents = || latest().chain([&self.file]);
        for document in documents() {
            if let Some(spans) = document.spans.get(&key) {
                return Some((document, document.part(spans, issue.kind)));
            }
        }
        // A misspelt table that only an argument makes.
        let made = |table: &str| latest().find(|own| is_within(&own.set_key, table));
        if let Some(document) = made(&key) {
            return Some((document, document.set_span()?));
        }
        let mut table = key.as_str();
        while let Some(at) = table.rfind(['.', '[']) {
            table = &table[..at];
            for document in documents() {
                if let Some(spans) = document.spans.get(table) {
                    return Some((document, document.header(spans)));
                }
            }
            if let Some(document) = made(table) {
                return Some((document, document.set_span()?));
            }
        }
        let is_table = matches!(issue.kind, IssueKind::Missing { is_table: true });
        Some((&self.file, self.file.edge(is_table)))
    }
}

/// The file first, then the arguments from left to right, then what has no place.
fn found_rank(sources: &Sources, issue: &ConfigIssue) -> usize {
    let Some(place) = &issue.place else {
        return usize::MAX;
    };
    if place.file.is_some() {
        return 0;
    }
    let same = |own: &Document| Arc::ptr_eq(&own.text, &place.text);
    1 + sources.set.iter().position(same).unwrap_or(0)
}

/// The path of a key before it got its right name and table.
fn as_written(key: &str, moved: &[(String, String)]) -> String {
    let mut key = key.to_string();
    for (old, right) in moved.iter().rev() {
        if is_within(&key, right) {
            key = format!("{old}{}", &key[right.len()..]);
        }
    }
    key
}

impl Document {
    /// A pair of `--set`, as it is on the command line.
    fn of_pair(pair: &str) -> Self {
        let mut spans = HashMap::new();
        let end = SET.len() + pair.len();
        let set_key = match pair.split_once('=') {
            None => {
                let all = SET.len()..end;
                let whole = KeySpans {
                    key: all.clone(),
                    value: all,
                };
                spans.insert(pair.to_string(), whole);
                pair.to_string()
            }
            Some((key, value)) => {
                let start = SET.len() + key.len() + 1;
                let blank = value.len() - value.trim_start().len();
                let key_start = SET.len() + key.len() - key.trim_start().len();
                let path = path_of(key.trim());
                let key_span = key_start..key_start + key.trim().len();
                let value_span = start + blank..start + value.trim_end().len().max(blank);
                let before = "v = ";
                let text = format!("{before}{value}");
                if let Ok(parsed) = DeTable::parse(&text)
                    && let Some((_, value)) = parsed.get_ref().iter().next()
                {
                    let offset = start.wrapping_sub(before.len());
                    collect_value(value.get_ref(), &path, offset, &mut spans);
                }
                let own = KeySpans {
                    value: if value_span.is_empty() {
                        key_span.clone()
                    } else {
                        value_span
                    },
                    key: key_span,
                };
                spans.insert(path.clone(), own);
                path
            }
        };
        Self {
            file: None,
            text: format!("{SET}{pair}").into(),
            spans,
            set_key,
        }
    }

    /// The key that the argument sets.
    fn set_span(&self) -> Option<Range<usize>> {
        let spans = self.spans.get(&self.set_key)?;
        Some(spans.key.clone())
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place {
            file: self.file.clone(),
            text: self.text.clone(),
            span,
        }
    }

    /// What a mistake of a key points at.
    fn part(&self, spans: &KeySpans, kind: IssueKind) -> Range<usize> {
        let is_long = self.text[spans.value.clone()].contains('\n');
        let is_header = self.text[spans.value.clone()].starts_with('[')
            && spans.value.contains(&spans.key.start);
        match kind {
            IssueKind::Value | IssueKind::Missing { .. } if !is_long && !is_header => {
                spans.value.clone()
            }
            _ => spans.key.clone(),
        }
    }

    /// What the lack of a key points at: the table's header or, inline, its name.
    fn header(&self, spans: &KeySpans) -> Range<usize> {
        if self.text[spans.value.clone()].contains('\n') {
            spans.key.clone()
        } else {
            spans.value.clone()
        }
    }

    /// Where a missing key of no table would be: before all tables, or a table after them.
    fn edge(&self, is_table: bool) -> Range<usize> {
        if is_table {
            let end = self.text.trim_end().len();
            return end..end;
        }
        let first = self.spans.values().min_by_key(|spans| spans.key.start);
        first.map_or(0..0, |spans| self.part(spans, IssueKind::Unknown))
    }
}

/// `eval.0.dataset` as `eval[0].dataset`
fn path_of(key: &str) -> String {
    let mut path = String::new();
    for step in key.split('.') {
        if !path.is_empty() && step.parse::<usize>().is_ok() {
            path.push_str(&format!("[{step}]"));
        } else {
            path = join(&path, step);
        }
    }
    path
}

/// - offset: of the parsed text in the one that is shown, modulo the size of a `usize`.
fn collect_spans(table: &DeTable, path: &str, offset: usize, out: &mut HashMap<String, KeySpans>) {
    for (name, value) in table {
        let path = join(path, name.get_ref());
        let spans = KeySpans {
            key: shifted(name.span(), offset),
            value: shifted(value.span(), offset),
        };
        out.insert(path.clone(), spans);
        collect_value(value.get_ref(), &path, offset, out);
    }
}

fn collect_value(value: &DeValue, path: &str, offset: usize, out: &mut HashMap<String, KeySpans>) {
    match value {
        DeValue::Table(table) => collect_spans(table, path, offset, out),
        DeValue::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let path = format!("{path}[{at}]");
                let span = shifted(item.span(), offset);
                let spans = KeySpans {
                    key: span.clone(),
                    value: span,
                };
                out.insert(path.clone(), spans);
                collect_value(item.get_ref(), &path, offset, out);
            }
        }
        _ => {}
    }
}

fn shifted(span: Range<usize>, offset: usize) -> Range<usize> {
    span.start.wrapping_add(offset)..span.end.wrapping_add(offset)
}

/// Errors of syntax, one a line.
fn syntax(path: &Path, text: &str, errors: &[toml::de::Error]) -> ConfigError {
    let mut problems: Vec<ConfigIssue> = Vec::new();
    let mut errors: Vec<&toml::de::Error> = errors.iter().collect();
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let mut issue = ConfigIssue::new("", format!("not TOML: {}", error.message()));
        issue.help = syntax_help(error.message()).map(str::to_string);
        let place = Place::in_file(path, text, span);
        let line = place.line();
        issue.place = Some(place);
        let is_known = |own: &ConfigIssue| own.place.as_ref().is_some_and(|own| own.line() == line);
        if problems.iter().any(is_known) {
            continue;
        }
        problems.push(issue);
        let has = |word: &str| error.message().contains(word);
        let is_open = ["array", "inline table", "unclosed", "multi-line"].map(has);
        let is_header = text.lines().nth(line - 1).unwrap_or("").starts_with('[');
        // All that follows is a part of what is not closed, or of a table that is there twice.
        if is_open.contains(&true) || (is_header && has("duplicate key")) {
            break;
        }
    }
    problems.truncate(MAX_SYNTAX_ERRORS);
    ConfigError::Problems {
        path: path.to_path_buf(),
        problems,
    }
}

fn syntax_help(message: &str) -> Option<&'static str> {
    if message.contains("must be quoted") || message.contains("invalid boolean") {
        Some("write a string in quotes, such as \"fast\"")
    } else if message.contains("duplicate key") {
        Some("write each key and each table once")
    } else if message.contains("in array") {
        Some("is a `]` missing above?")
    } else {
        None
    }
}
