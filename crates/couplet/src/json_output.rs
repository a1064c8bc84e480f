//! Results as JSON, in a file or alone on standard output.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde::Serialize;

use crate::commands::output_file::{self, write_whole};

/// The name that stands for standard output.
const STDOUT: &str = "-";
const OPTION: &str = "--json";

/// Whether standard output is for JSON, and what is printed for people is left out.
static IS_ALONE: AtomicBool = AtomicBool::new(false);

/// `--json` of a command that prints results.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct JsonArguments {
    /// Write the results as JSON to this file; - is standard output, and then nothing else goes there
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = STDOUT)]
    json: Option<PathBuf>,
}

impl JsonArguments {
    /// Fails before a command works if it could not write the file at its end, and keeps standard output
    /// free if that is where the JSON goes.
    pub fn begin(&self) -> anyhow::Result<()> {
        match self.json.as_deref() {
            Some(file) if file == Path::new(STDOUT) => IS_ALONE.store(true, Ordering::Relaxed),
            Some(file) => output_file::check(file)?,
            None => {}
        }
        Ok(())
    }

    /// The same file, wherever the process goes.
    ///
    /// # Errors
    /// If the working directory is gone.
    pub fn absolute(&self) -> std::io::Result<Self> {
        let place = |file: &PathBuf| {
            if file.as_os_str() == STDOUT {
                Ok(file.clone())
            } else {
                std::path::absolute(file)
            }
        };
        let json = self.json.as_ref().map(place).transpose()?;
        Ok(Self { json })
    }

    /// Whether JSON was asked for.
    pub fn is_given(&self) -> bool {
        self.json.is_some()
    }

    /// Writes the results if they were asked for.
    pub fn write(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let Some(file) = &self.json else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(value)? + "\n";
        if file == Path::new(STDOUT) {
            // A closed pipe is no error: `| head`.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return Ok(());
        }
        write_whole(file, |path| Ok(std::fs::write(path, text)?))
    }
}

/// Whether nothing but JSON may go to standard output.
pub(crate) fn is_alone() -> bool {
    IS_ALONE.load(Ordering::Relaxed)
}

/// The process's arguments. `--json` was a flag in some commands: where a config or a folder follows, it
/// still is one.
pub(crate) fn arguments() -> Vec<OsString> {
    with_values(std::env::args_os().collect())
}

fn with_values(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut all = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let is_json = argument == OPTION;
        all.push(argument);
        if is_json && arguments.peek().is_some_and(|next| is_input(next)) {
            all.push(STDOUT.into());
        }
    }
    all
}

fn is_input(argument: &OsStr) -> bool {
    let path = Path::new(argument);
    let has_end = |wanted: &str| path.extension().is_some_and(|end| end == wanted);
    // A file that is there and is no JSON is what a command reads, such as an image.
    has_end("toml") || path.is_dir() || path.is_file() && !has_end("json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_never_the_file_of_json() {
        let of = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            let words: Vec<String> = (with_values(words).into_iter())
                .map(|word| word.into_string().unwrap())
                .collect();
            words.join(" ")
        };
        assert_eq!(of("plan --json a.toml"), "plan --json - a.toml");
        assert_eq!(of("plan a.toml --json"), "plan a.toml --json");
        assert_eq!(of("plan a.toml --json b.json"), "plan a.toml --json b.json");
        assert_eq!(of("bench --json --device x"), "bench --json --device x");
        assert_eq!(of("verify --json src"), "verify --json - src");
    }
}
