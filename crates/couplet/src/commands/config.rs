//! `couplet config`.

use clap::{Args, Subcommand};
use console::Term;
use couplet_train::config::schema::{self, KeyEntry};

use crate::exit_code;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON schema of a run's config, for editors
    Schema(ConfigSchemaArguments),
    /// Print the reference of all keys in Markdown
    Reference,
    /// List keys with their types, defaults and meanings
    Keys(ConfigKeysArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigSchemaArguments {
    /// Print that of a dataset file
    #[arg(long)]
    dataset: bool,
    /// Print that of a sweep's file
    #[arg(long, conflicts_with = "dataset")]
    sweep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigKeysArguments {
    /// List only this key and those in its table, such as `data.train` [default: all keys]
    prefix: Option<String>,
}

/// Suggestions for a key that is unknown.
const SUGGESTIONS: usize = 3;
/// Columns of text that is not for a terminal.
const DEFAULT_WIDTH: usize = 100;
const INDENT: &str = "    ";

pub(crate) fn run(command: &ConfigCommand) -> anyhow::Result<u8> {
    match command {
        ConfigCommand::Schema(arguments) => {
            let schema = match (arguments.dataset, arguments.sweep) {
                (true, _) => schema::dataset_json_schema(),
                (_, true) => schema::sweep_json_schema(),
                _ => schema::json_schema(),
            };
            println!("{}", serde_json::to_string_pretty(&schema)?);
        }
        ConfigCommand::Reference => println!("{}", schema::reference().trim_end()),
        ConfigCommand::Keys(arguments) => return Ok(keys(arguments)),
    }
    Ok(exit_code::DONE)
}

fn keys(arguments: &ConfigKeysArguments) -> u8 {
    let prefix = arguments.prefix.as_deref().unwrap_or_default();
    let prefix = plain(prefix.trim_end_matches('.'));
    let mut keys = schema::keys();
    keys.retain(|key| is_within(&plain(&key.path), &prefix));
    if keys.is_empty() {
        let near = schema::nearest_keys(&prefix, SUGGESTIONS);
        let near: Vec<String> = near.iter().map(|key| format!("`{key}`")).collect();
        let near = near.join(", ");
        eprintln!("error: no key `{prefix}` in a config; the nearest are {near}");
        return exit_code::USAGE;
    }
    let terminal = Term::stdout().size_checked();
    let width = terminal.map_or(DEFAULT_WIDTH, |(_, columns)| usize::from(columns));
    for key in &keys {
        print(key, width);
    }
    exit_code::DONE
}

/// A key with neither the marks of lists nor numbers of their entries.
fn plain(path: &str) -> String {
    let mut plain = String::new();
    let mut is_index = false;
    for letter in path.chars() {
        is_index = letter == '[' || (is_index && letter != ']');
        if !is_index && letter != ']' {
            plain.push(letter);
        }
    }
    plain
}

fn is_within(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.is_empty() || rest.starts_with('.'))
}

fn print(key: &KeyEntry, width: usize) {
    let mut head = format!("{}  {}", key.path, key.kind.replace('`', ""));
    match (&key.default, key.required) {
        (Some(default), _) => head.push_str(&format!(" = {default}")),
        (None, Some(required)) => head.push_str(&format!("  ({})", required.replace('`', ""))),
        (None, None) => {}
    }
    if let Some(when) = &key.when {
        head.push_str(&format!("  with {when}"));
    }
    let summary = key.summary().replace('`', "");
    for (at, line) in wrap(&head, width, INDENT.len() * 2).iter().enumerate() {
        let indent = if at == 0 { "" } else { "        " };
        println!("{indent}{line}");
    }
    for line in wrap(&summary, width, INDENT.len()) {
        println!("{INDENT}{line}");
    }
}

/// Lines of words that fit between an indent and the terminal's edge.
fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let room = width.saturating_sub(indent).max(20);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        let len = line.chars().count() + word.chars().count();
        if line.is_empty() || len < room {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}
