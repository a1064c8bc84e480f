//! `couplet runs`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use couplet_pages::{BestValue, Run, Summary};

use crate::json_output::JsonArguments;
use crate::quantities::duration;
use crate::table::Table;
use crate::{exit_code, printing, terminal};

#[derive(Debug, Args)]
pub(crate) struct RunsArguments {
    /// Folders of runs, or folders that hold such
    #[arg(value_name = "FOLDER", default_value = "runs")]
    folders: Vec<PathBuf>,
    #[command(flatten)]
    json: JsonArguments,
}

pub(crate) fn run(arguments: &RunsArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let mut found = Vec::new();
    for folder in &arguments.folders {
        find(folder, DEPTH, &mut found)?;
    }
    if found.is_empty() {
        let folders: Vec<String> = (arguments.folders.iter())
            .map(|folder| folder.display().to_string())
            .collect();
        bail!(
            "no run is in {}; `couplet train` begins one",
            folders.join(", ")
        );
    }
    let runs = found.iter().map(|run| Ok(Run::read(run)?.summary()));
    let runs: Vec<Summary> = runs.collect::<anyhow::Result<_>>()?;
    printing::block(&table(&runs).render(terminal::table_columns()));
    if arguments.json.is_given() {
        arguments.json.write(&runs)?;
    }
    Ok(exit_code::DONE)
}

/// Folders in folders that are looked into: a sweep has its trials in a folder of its own.
const DEPTH: usize = 2;

/// The runs in a folder, by name; the folder itself, if it is one.
fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if folder.join("metrics.jsonl").is_file() {
        found.push(folder.to_path_buf());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let inside = match fs::read_dir(folder) {
        Ok(inside) => inside,
        Err(error) => bail!("{}: cannot be read: {error}", folder.display()),
    };
    let mut inside: Vec<PathBuf> = (inside.filter_map(Result::ok))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    inside.sort();
    for path in inside {
        find(&path, depth - 1, found)?;
    }
    Ok(())
}

fn table(runs: &[Summary]) -> Table {
    let head = [
        "run",
        "state",
        "step",
        "of",
        "time left",
        "loss",
        "best",
        "at step",
    ];
    let mut table = Table::new(head.map(String::from).to_vec());
    for run in runs {
        let none = || "–".to_string();
        let best = run.best.as_ref();
        table.row(vec![
            run.folder.clone(),
            run.state.to_string(),
            run.step.to_string(),
            run.total_steps.map_or_else(none, |total| total.to_string()),
            run.seconds_left.map_or_else(none, duration),
            run.loss.map_or_else(none, |loss| format!("{loss:.4}")),
            best.map_or_else(none, BestValue::shown),
            best.map_or_else(none, |best| best.step.to_string()),
        ]);
    }
    table
}
