//! Where the workspace is, and what cargo says about it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// What a cargo command prints that builds nothing.
pub(crate) fn cargo_output(arguments: &[&str]) -> Result<String, String> {
    let shown = format!("cargo {}", arguments.join(" "));
    let output = Command::new(env!("CARGO"))
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
