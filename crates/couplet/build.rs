//! Finds the commit that the binary is built from: in a package the one that cargo noted, else git's.

use std::path::Path;
use std::process::Command;

/// Digits of a commit that are printed.
const DIGITS: usize = 12;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(commit) = of_package().or_else(of_checkout) {
        println!("cargo:rustc-env=COUPLET_COMMIT={commit}");
    }
}

/// The commit in the file that `cargo package` writes.
fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let digits = rest.trim_start_matches([':', ' ', '"']);
    let commit: String = digits.chars().take(DIGITS).collect();
    let is_commit = commit.len() == DIGITS && commit.chars().all(|c| c.is_ascii_hexdigit());
    is_commit.then_some(commit)
}

/// The commit of the working tree, if this package is one of its files.
fn of_checkout() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        println!("cargo:rerun-if-changed={path}");
    }
    // Whether the sources are those of the commit.
    let crates = Path::new("..");
    println!("cargo:rerun-if-changed={}", crates.display());
    let commit = git(&["rev-parse", &format!("--short={DIGITS}"), "HEAD"])?;
    let is_same = git(&["diff", "--quiet", "HEAD", "--", ".."]).is_some();
    Some(if is_same {
        commit
    } else {
        commit + "-modified"
    })
}

/// What git prints, if it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}
