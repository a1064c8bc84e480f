//! `couplet runs`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_data::with_causes;
use couplet_pages::{BestValue, Summary, find_runs};

use crate::json_output::JsonArguments;
use crate::quantities::duration;
use crate::table::Table;
use crate::{exit_code, printing, terminal};

/// Where runs are, unless a config or the command line says otherwise.
const FOLDER: &str = "runs";

#[derive(Debug, Args)]
pub(crate) struct RunsArguments {
    /// Folders of runs, or folders that hold such
    #[arg(value_name = "FOLDER", default_value = FOLDER)]
    folders: Vec<PathBuf>,
    #[command(flatten)]
    json: JsonArguments,
}

pub(crate) fn run(arguments: &RunsArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let mut found = Vec::new();
    for folder in &arguments.folders {
        // Without a run yet, there is no such folder.
        let is_new = !folder.exists() && folder == Path::new(FOLDER);
        if !is_new {
            let problem = |path: &Path, error: &std::io::Error| {
                printing::warn(&format!("{}: cannot be read: {error}", path.display()));
            };
            let inside = find_runs(folder, problem)
                .with_context(|| format!("{}: cannot be read", folder.display()))?;
            found.extend(inside);
        }
    }
    let mut runs = Vec::new();
    for run in &found {
        // It may have been deleted meanwhile.
        match Summary::read(run) {
            Ok(summary) => runs.push(summary),
            Err(error) => printing::warn(&with_causes(&error)),
        }
    }
    if runs.is_empty() {
        let folders: Vec<String> = (arguments.folders.iter())
            .map(|folder| folder.display().to_string())
            .collect();
        bail!(
            "no run is in {}; `couplet train` begins one, or give the folder that holds yours",
            folders.join(", ")
        );
    }
    printing::block(&table(&runs).render(terminal::table_columns()));
    if arguments.json.is_given() {
        arguments.json.write(&runs)?;
    }
    Ok(exit_code::DONE)
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
