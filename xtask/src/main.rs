//! `cargo xtask check`: all checks that a change must pass, except tests.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// Which of our crates each crate may import, as in ARCHITECTURE.md.
const MAY_IMPORT: [(&str, &[&str]); 8] = [
    ("couplet-alloc", &[]),
    ("couplet-data", &[]),
    ("couplet-kernels", &[]),
    ("couplet-model", &["couplet-kernels"]),
    ("couplet-loss", &[]),
    ("couplet-eval", &["couplet-data", "couplet-model"]),
    (
        "couplet-train",
        &[
            "couplet-data",
            "couplet-model",
            "couplet-loss",
            "couplet-eval",
            "couplet-kernels",
        ],
    ),
    (
        "couplet",
        &[
            "couplet-alloc",
            "couplet-train",
            "couplet-eval",
            "couplet-data",
            "couplet-model",
        ],
    ),
];

/// The one file of couplet-data that may name Burn.
const DATA_BURN_FILE: &str = "batch.rs";
/// File names that do not describe the contents.
const VAGUE_NAMES: [&str; 5] = ["utils", "util", "common", "helpers", "base"];
/// Longer files should be split.
const MAX_LINES: usize = 540;

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("check") => check(),
        Some("laws") => report(&laws()),
        _ => {
            eprintln!("cargo xtask check   run fmt, clippy, docs and the laws");
            eprintln!("cargo xtask laws    check only the laws of ARCHITECTURE.md");
            ExitCode::from(2)
        }
    }
}

fn check() -> ExitCode {
    let steps: [(&str, &[&str]); 3] = [
        ("fmt", &["fmt", "--all", "--check"]),
        (
            "clippy",
            &[
                "clippy",
                "--release",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
        ("doc", &["doc", "--release", "--workspace", "--no-deps"]),
    ];
    for (name, arguments) in steps {
        println!("xtask: {name}");
        let status = Command::new(env!("CARGO"))
            .args(arguments)
            .env("RUSTDOCFLAGS", "-D warnings")
            .current_dir(root())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("xtask: {name} failed");
            return ExitCode::FAILURE;
        }
    }
    report(&laws())
}

fn report(broken: &[String]) -> ExitCode {
    for law in broken {
        eprintln!("xtask: {law}");
    }
    if broken.is_empty() {
        println!("xtask: the laws hold");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A message for each broken law.
fn laws() -> Vec<String> {
    let mut broken = Vec::new();
    for (name, may) in MAY_IMPORT {
        let folder = root().join("crates").join(name);
        imports(&folder, name, may, &mut broken);
        for file in rust_files(&folder.join("src")) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            source_laws(name, &file, &text, &mut broken);
        }
    }
    broken
}

fn imports(folder: &Path, name: &str, may: &[&str], broken: &mut Vec<String>) {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    for line in dependencies
        .lines()
        .take_while(|line| !line.starts_with('['))
    {
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if dependency.starts_with("couplet") && !may.contains(&dependency) {
            broken.push(format!("{name} must not import {dependency}"));
        }
    }
}

fn source_laws(name: &str, file: &Path, text: &str, broken: &mut Vec<String>) {
    let shown = file.strip_prefix(root()).unwrap_or(file).display();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    if VAGUE_NAMES.contains(&&*stem) {
        broken.push(format!("{shown}: the name does not describe the contents"));
    }
    let code = text.split("#[cfg(test)]\nmod").next().unwrap_or(text);
    if text.lines().count() > MAX_LINES {
        broken.push(format!("{shown}: more than {MAX_LINES} lines"));
    }
    for (at, line) in code.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("//") {
            continue;
        }
        let says = |what: &str| format!("{shown}:{}: {what}", at + 1);
        let prints = ["println!(", "print!(", "process::exit("];
        if name != "couplet" && prints.iter().any(|print| line.contains(print)) {
            broken.push(says("only the binary prints or exits"));
        }
        if name == "couplet-data" && line.contains("burn::") && !file.ends_with(DATA_BURN_FILE) {
            broken.push(says("only batch.rs of couplet-data names Burn"));
        }
        let updates = line.contains("burn::optim") || line.contains("map_parameters(");
        if updates && ["couplet", "couplet-eval", "couplet-data", "couplet-loss"].contains(&name) {
            broken.push(says("only couplet-train updates parameters"));
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laws_hold() {
        assert_eq!(laws(), [""; 0]);
    }

    #[test]
    fn broken_laws_are_reported() {
        let mut broken = Vec::new();
        let text = "use burn::tensor;\nprintln!(\"x\");\n// println!(\"y\")\n";
        source_laws("couplet-data", Path::new("src/utils.rs"), text, &mut broken);
        assert_eq!(broken.len(), 3, "{broken:?}");
    }
}
