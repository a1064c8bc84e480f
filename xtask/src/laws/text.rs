//! What a file's text shows: its name, its length and names that only some crates may use.

use std::path::Path;

/// The one file of couplet-data that may name Burn.
const DATA_BURN_FILE: &str = "batch.rs";
/// Names that say nothing of what a file holds.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "common", "helpers", "base"];
/// A longer file wants a split along a seam.
const MAX_LINES: usize = 450;
const PRINTS: [&str; 3] = ["println!(", "print!(", "process::exit("];
const PRINTERS: [&str; 2] = ["couplet", "xtask"];
const UPDATES: [&str; 2] = ["burn::optim", "map_parameters("];
const NEVER_UPDATE: [&str; 9] = [
    "couplet",
    "couplet-eval",
    "couplet-data",
    "couplet-hub",
    "couplet-loss",
    "couplet-onnx",
    "couplet-pages",
    "couplet-search",
    "couplet-serve",
];

/// The laws that a file of the crate `name` breaks; `file` is relative to the workspace.
pub(super) fn check(name: &str, file: &Path, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let shown = file.display();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&&*stem) {
        broken.push(format!("{shown}: the name says nothing of what it holds"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        broken.push(format!(
            "{shown}: {lines} lines; the limit is {MAX_LINES}, split it along a seam"
        ));
    }
    if !file.components().any(|part| part.as_os_str() == "src") {
        return broken;
    }
    let code = text.split("#[cfg(test)]\nmod").next().unwrap_or(text);
    for (at, line) in code.lines().enumerate() {
        if let Some(law) = line_law(name, file, line.trim()) {
            broken.push(format!("{shown}:{}: {law}", at + 1));
        }
    }
    broken
}

fn line_law(name: &str, file: &Path, line: &str) -> Option<&'static str> {
    let has = |any: &[&str]| any.iter().any(|part| line.contains(part));
    if line.starts_with("//") {
        return None;
    }
    if !PRINTERS.contains(&name) && has(&PRINTS) {
        return Some("only the binary prints or exits");
    }
    if name == "couplet-data" && line.contains("burn::") && !file.ends_with(DATA_BURN_FILE) {
        return Some("only batch.rs of couplet-data names Burn");
    }
    if NEVER_UPDATE.contains(&name) && has(&UPDATES) {
        return Some("only couplet-train updates parameters");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(file: &str, text: &str) -> usize {
        check("couplet-data", Path::new(file), text).len()
    }

    #[test]
    fn broken_laws_are_found() {
        let text = "use burn::tensor;\nprintln!(\"x\");\n// println!(\"y\")\n";
        assert_eq!(broken("crates/couplet-data/src/utils.rs", text), 3);
        assert_eq!(broken("crates/couplet-data/tests/x.rs", text), 0);
    }

    #[test]
    fn a_file_has_at_most_450_lines() {
        assert_eq!(broken("src/a.rs", &"\n".repeat(450)), 0);
        assert_eq!(broken("src/a.rs", &"\n".repeat(451)), 1);
    }
}
