//! The commands of the README and the guide, run as they are written.
//!
//! Every block of commands runs, in the order of its page, unless `<!-- not run: REASON -->` precedes it. Training
//! is cut to a few steps, and small files stand for the reader's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{Workspace, succeed, text};

/// Blocks of this language are scripts.
const SCRIPT: &str = "sh";
/// Of these, lines behind `$ ` are commands and the others what they print.
const TRANSCRIPT: &str = "console";
const NOT_RUN: &str = "<!-- not run: ";

/// `couplet` on the path of a document's commands: a page trains for minutes, a test for three steps.
const SHORT_RUNS: &str = r#"#!/bin/sh
case "$1" in
train) exec "$COUPLET" "$@" --set "schedule.length=3 steps" --set "schedule.warmup=1 steps" \
    --set "log.every=1 steps" --set "checkpoint.every=1 steps" ;;
*) exec "$COUPLET" "$@" ;;
esac
"#;

struct Block {
    line: usize,
    language: String,
    text: String,
    /// Why it is not run.
    excuse: Option<String>,
}

impl Block {
    /// What bash runs.
    fn script(&self) -> Option<String> {
        match self.language.as_str() {
            SCRIPT => Some(self.text.clone()),
            TRANSCRIPT => {
                let commands = self.text.lines().filter_map(|line| line.strip_prefix("$ "));
                Some(commands.collect::<Vec<_>>().join("\n"))
            }
            _ => None,
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The README and the pages of the guide.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = docs.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|end| end == "md"));
    pages.push(repository().join("README.md"));
    pages.sort();
    pages
}

/// The fenced blocks of a page.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut excuse = None;
    let mut is_open = false;
    for (at, line) in page.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (is_open, fence) {
            (true, Some(_)) => is_open = false,
            (true, None) => {
                let block = blocks.last_mut().unwrap();
                block.text += line;
                block.text.push('\n');
            }
            (false, Some(language)) => {
                is_open = true;
                blocks.push(Block {
                    line: at + 1,
                    language: language.trim().to_string(),
                    text: String::new(),
                    excuse: excuse.take(),
                });
            }
            (false, None) => {
                if let Some(reason) = line.strip_prefix(NOT_RUN) {
                    excuse = Some(reason.trim_end_matches("-->").trim().to_string());
                }
            }
        }
    }
    assert!(!is_open, "a block is not closed");
    blocks
}

/// A folder in which the names of the documents are files.
fn scene() -> Workspace {
    let workspace = Workspace::with(&[
        (
            "captions.txt",
            "a red circle\na blue star\na green square\n",
        ),
        ("couplet", SHORT_RUNS),
        ("mine.toml", &complete_config()),
        (
            "photos.toml",
            &complete_config().replace("\"mine\"", "\"photos\""),
        ),
    ]);
    succeed(
        Command::new("chmod")
            .args(["+x"])
            .arg(workspace.path("couplet")),
    );
    for name in ["configs", "datasets", "experiments"] {
        let target = repository().join(name).canonicalize().unwrap();
        std::os::unix::fs::symlink(target, workspace.path(name)).unwrap();
    }
    for (folder, format) in [
        ("data/photos", "folder"),
        ("data/photos-val", "folder"),
        ("photos", "folder"),
        ("data/pairs", "csv"),
        ("data/shards", "webdataset"),
        ("data/pets/train", "class-folder"),
    ] {
        let seed = folder.len().to_string();
        let samples = if format == "class-folder" {
            "128"
        } else {
            "48"
        };
        fs::create_dir_all(workspace.path(folder).parent().unwrap()).unwrap();
        let arguments = [
            "data",
            "shapes",
            folder,
            "--format",
            format,
            "--samples",
            samples,
            "--seed",
            &seed,
        ];
        succeed(workspace.couplet(&arguments));
    }
    let mut copy = Command::new("cp");
    let folders = ["data/pets/train", "data/pets/test"].map(|name| workspace.path(name));
    succeed(copy.arg("-a").args(folders));
    image::RgbImage::from_pixel(40, 30, [200, 40, 40].into())
        .save(workspace.path("photo.jpg"))
        .unwrap();
    for run in ["runs/shapes", "runs/other", "runs/photos"] {
        let script = format!("couplet train configs/shapes.toml --run-dir {run}");
        succeed(bash(&workspace, &script));
    }
    workspace
}

/// A script in the workspace's folder.
fn bash(workspace: &Workspace, script: &str) -> Command {
    let mut bash = workspace.command("bash", &["-euo", "pipefail", "-c", script]);
    let folder = workspace.path(".");
    let search = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    bash.env("PATH", search)
        .env("COUPLET", env!("CARGO_BIN_EXE_couplet"));
    bash
}

/// The README's config.
fn complete_config() -> String {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks = blocks(&readme);
    let config = blocks.into_iter().find(|block| block.language == "toml");
    config.unwrap().text
}

fn copy_of(scene: &Workspace) -> Workspace {
    let copy = Workspace::with(&[]);
    let mut command = Command::new("cp");
    command.arg("-a").arg(scene.path(".")).arg(copy.path("."));
    succeed(command);
    copy
}

/// What a page's commands leave behind must not be there before.
fn without_runs_that_it_trains(page: &str, workspace: &Workspace) {
    for (command, run) in [
        ("$ couplet train configs/shapes.toml", "runs/shapes"),
        ("--run-dir runs/other", "runs/other"),
        ("$ couplet train photos.toml", "runs/photos"),
        ("$ couplet init data/photos", "photos.toml"),
    ] {
        if page.contains(command) {
            let path = workspace.path(run);
            let removed = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
            removed.unwrap();
        }
    }
}

#[test]
fn every_command_of_the_documents_runs() {
    let scene = scene();
    let mut run = 0;
    let mut failures = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let workspace = copy_of(&scene);
        without_runs_that_it_trains(&page, &workspace);
        for block in blocks(&page) {
            let (None, Some(script)) = (&block.excuse, block.script()) else {
                continue;
            };
            let output = bash(&workspace, &script).output().unwrap();
            run += 1;
            if !output.status.success() {
                let place = format!("{}:{}", path.display(), block.line);
                failures.push(format!("{place}\n{script}\n{}", text(&output)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(run > 20, "only {run} blocks were found");
}

#[test]
fn what_is_not_run_says_why() {
    for path in pages() {
        for block in blocks(&fs::read_to_string(&path).unwrap()) {
            let shown = format!("{}:{}", path.display(), block.line);
            assert!(
                !block.language.is_empty(),
                "{shown}: a block names its language"
            );
            if let Some(reason) = &block.excuse {
                assert!(reason.split(' ').count() > 2, "{shown}: {reason}");
            }
        }
    }
}

/// Puts a fragment's keys over a config's. A table with a kind of its own takes the place of the other.
fn merge(config: &mut toml::Table, fragment: toml::Table) {
    for (key, value) in fragment {
        match (config.get_mut(&key), value) {
            (Some(toml::Value::Table(own)), toml::Value::Table(other))
                if !["source", "kind", "weights"]
                    .iter()
                    .any(|kind| other.contains_key(*kind)) =>
            {
                merge(own, other);
            }
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
}

#[test]
fn every_fragment_of_a_config_names_keys_that_exist() {
    let base: toml::Table = complete_config().parse().unwrap();
    for path in pages() {
        for block in blocks(&fs::read_to_string(&path).unwrap()) {
            if block.language != "toml" || block.text.contains("[dependencies]") {
                continue;
            }
            let shown = format!("{}:{}", path.display(), block.line);
            let fragment: toml::Table = block
                .text
                .parse()
                .unwrap_or_else(|error| panic!("{shown}: {error}"));
            let mut config = base.clone();
            merge(&mut config, fragment);
            let workspace = Workspace::with(&[("config.toml", &config.to_string())]);
            let output = workspace
                .couplet(&["plan", "config.toml"])
                .output()
                .unwrap();
            let printed = text(&output);
            assert!(
                !printed.contains("unknown key")
                    && !printed.contains("did you mean")
                    && !printed.contains("expected"),
                "{shown}: {printed}"
            );
        }
    }
}
