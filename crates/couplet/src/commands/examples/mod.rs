//! Examples at the end of each command's help.

mod list;
mod models;

use clap::Command;

use self::list::{ALL, Examples};
use self::models::MODELS;
use crate::terminal::{wrap, wrap_command};

const INDENT: &str = "  ";

/// Of all commands.
fn all() -> impl Iterator<Item = &'static Examples> {
    ALL.iter().chain(MODELS)
}

/// Adds the examples to the help of all commands, and fits that to its columns.
pub(crate) fn add_to(command: Command, columns: usize) -> Command {
    let command = all().fold(command, |command, (path, examples)| {
        let text = section(examples, columns);
        add_at(command, path, text)
    });
    // Building passes the width on to the commands below.
    let mut command = command.term_width(columns);
    command.build();
    wrap_usage(&mut command, columns);
    command
}

/// Wraps usages, which clap does not.
fn wrap_usage(command: &mut Command, columns: usize) {
    const HEAD: &str = "Usage: ";
    for below in command.get_subcommands_mut() {
        wrap_usage(below, columns);
        let usage = below.render_usage().to_string();
        let Some(usage) = usage.strip_prefix(HEAD) else {
            continue;
        };
        if usage.lines().any(|line| HEAD.len() + line.len() > columns) {
            let usage = wrap(usage, Some(columns - HEAD.len()));
            let indent = " ".repeat(HEAD.len());
            let usage = usage.replace('\n', &format!("\n{indent}"));
            *below = below.clone().override_usage(usage);
        }
    }
}

/// Adds a text to the help of a command below another one.
fn add_at(command: Command, path: &[&'static str], text: String) -> Command {
    match path {
        [] => command.after_help(text),
        [first, rest @ ..] => command.mut_subcommand(first, |command| add_at(command, rest, text)),
    }
}

fn section(examples: &[(&str, &str)], columns: usize) -> String {
    let mut text = "Examples:".to_string();
    for (what, line) in examples {
        if !what.is_empty() {
            text.push_str(&format!("\n  # {what}"));
        }
        let line = wrap_command(line, columns - INDENT.len());
        for line in line.lines() {
            text.push_str(&format!("\n{INDENT}{line}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::Arguments;

    /// The words of a command line, as a shell has them; what follows `>` or `|` is the shell's.
    fn words(line: &str) -> Vec<String> {
        let line = line.replace("\\\n", "");
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        for letter in line
            .chars()
            .take_while(|letter| !['>', '|'].contains(letter))
        {
            match letter {
                '"' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(String::new()),
                letter => words.last_mut().unwrap().push(letter),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_example_is_a_command_line_of_its_command() {
        for (path, examples) in all() {
            assert!(!examples.is_empty());
            for (_, line) in *examples {
                let words = words(line);
                assert_eq!(words[0], "couplet");
                assert_eq!(words[1..=path.len()], **path, "{line}");
                if let Err(error) = Arguments::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_help_of_every_command_with_examples_shows_them() {
        for columns in [60, 80, 100] {
            let mut command = add_to(Arguments::command(), columns);
            for (path, examples) in all() {
                let mut own = &mut command;
                for name in *path {
                    own = own.find_subcommand_mut(name).unwrap();
                }
                let help = own.render_long_help().to_string();
                let words: Vec<&str> = help.split_whitespace().collect();
                let words = words.join(" ");
                for (_, line) in *examples {
                    let first = line.split(" --").next().unwrap();
                    assert!(words.contains(first), "{path:?}: {line}");
                }
                let is_wide = |line: &&str| line.chars().count() > columns;
                let wide: Vec<&str> = help.lines().filter(is_wide).collect();
                // A word is not broken.
                let may_be = |line: &&str| !line.trim().contains(' ') || line.contains("~/");
                assert!(wide.iter().all(may_be), "{columns}: {wide:?}");
            }
        }
        let command = add_to(Arguments::command(), 80);
        let paths: Vec<_> = all().map(|(path, _)| path.join(" ")).collect();
        let mut lacking = Vec::new();
        leaves(&command, "", &mut lacking);
        lacking.retain(|path| !paths.contains(path));
        assert_eq!(lacking, [""; 0], "commands without examples");
    }

    /// The commands that have none below them.
    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands() {
            let name = below.get_name();
            let path = format!("{path} {name}").trim().to_string();
            if name == "help" {
                continue;
            }
            if below.has_subcommands() {
                leaves(below, &path, found);
            } else {
                found.push(path);
            }
        }
    }
}
