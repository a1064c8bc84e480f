//! Where the workspace is, and what cargo says about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// The address of the repository, as the workspace's manifest states it.
pub(crate) fn repository() -> Result<String, String> {
    let manifest =
        fs::read_to_string(root().join("Cargo.toml")).map_err(|error| error.to_string())?;
    let manifest: toml::Table = manifest
        .parse()
        .map_err(|error| format!("Cargo.toml: {error}"))?;
    let package = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("package"));
    let repository = package.and_then(|package| package.get("repository")?.as_str());
    repository
        .map(str::to_owned)
        .ok_or_else(|| "Cargo.toml has no repository".to_owned())
}

/// The files that git tracks under a pattern, relative to the workspace.
pub(crate) fn tracked_files(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let listed = output("git", &["ls-files", "-z", pattern])?;
    Ok(listed.split_terminator('\0').map(PathBuf::from).collect())
}

/// What a cargo command prints that builds nothing.
pub(crate) fn cargo_output(arguments: &[&str]) -> Result<String, String> {
    output(env!("CARGO"), arguments)
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let name = Path::new(program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let shown = format!("{name} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{shown}: {}", problem.trim()));
    }
    let printed = str::from_utf8(&output.stdout);
    printed
        .map(str::to_owned)
        .map_err(|error| format!("{shown}: {error}"))
}
