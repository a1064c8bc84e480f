//! `couplet eval compare`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::result_arguments::write_json;
use crate::exit_code;

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Run folders to compare
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write the table to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the table to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
}

/// Prefix of an evaluation's metrics in a run's log.
const EVALUATION: &str = "eval/";
/// Counts, which are not compared.
const COUNTS: [&str; 2] = ["/images", "/skipped"];

/// The last value of each metric of a run, and its step.
type Results = BTreeMap<String, (f64, u64)>;

/// Prints the last value of each metric, with a column per run.
pub(super) fn run(arguments: &CompareArguments) -> anyhow::Result<u8> {
    let runs = arguments.runs.iter().map(|run| {
        let results = read(run)?;
        let name = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy();
        Ok((name.into_owned(), results))
    });
    let mut runs: Vec<(String, Results)> = runs.collect::<anyhow::Result<_>>()?;
    let mut names: Vec<String> = runs.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        // Folders with the same name are shown with their paths.
        for ((name, _), path) in runs.iter_mut().zip(&arguments.runs) {
            *name = path.display().to_string();
        }
    }
    if runs.iter().all(|(_, results)| results.is_empty()) {
        bail!("none of the runs has logged an evaluation");
    }
    let mut names: Vec<&String> = runs
        .iter()
        .flat_map(|(_, results)| results.keys())
        .collect();
    names.sort();
    names.dedup();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let column = runs
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(10);
    let head: Vec<String> = (runs.iter())
        .map(|(name, _)| format!("  {name:>column$}"))
        .collect();
    println!("{:width$}{}", "", head.concat());
    for name in &names {
        let cell = |results: &Results| match results.get(*name) {
            Some((value, _)) => format!("  {value:>column$.4}"),
            None => format!("  {:>column$}", "–"),
        };
        let cells: String = runs.iter().map(|(_, results)| cell(results)).collect();
        println!("{name:width$}{cells}");
    }
    let steps = runs.iter().map(|(_, results)| {
        let last = results.values().map(|(_, step)| *step).max();
        let last = last.map_or("–".into(), |step| step.to_string());
        format!("  {last:>column$}")
    });
    println!("{:width$}{}", "at step", steps.collect::<String>());
    if let Some(file) = &arguments.json {
        let runs = runs.iter().map(|(name, results)| {
            let values = results.iter().map(|(metric, (value, step))| {
                (
                    metric.clone(),
                    serde_json::json!({ "value": value, "step": step }),
                )
            });
            serde_json::json!({ "run": name, "metrics": values.collect::<serde_json::Map<_, _>>() })
        });
        write_json(file, &runs.collect::<Vec<Value>>())?;
    }
    if let Some(file) = &arguments.csv {
        let mut text = "run,metric,value,step\n".to_string();
        for (name, results) in &runs {
            for (metric, (value, step)) in results {
                text.push_str(&format!("{name},{metric},{value},{step}\n"));
            }
        }
        fs::write(file, text).with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    Ok(exit_code::DONE)
}

fn read(run: &Path) -> anyhow::Result<Results> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: not a run's log", path.display()))?;
    let mut results = Results::new();
    // The last line of a run in progress may be incomplete.
    for line in text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let step = line["step"].as_u64().unwrap_or(0);
        for (name, value) in line.as_object().into_iter().flatten() {
            let is_count = COUNTS.iter().any(|end| name.ends_with(end));
            if let Some(value) = value.as_f64()
                && let Some(metric) = name.strip_prefix(EVALUATION)
                && !is_count
            {
                results.insert(metric.to_string(), (value, step));
            }
        }
    }
    if results.is_empty() {
        eprintln!("warning: {}: contains no evaluation yet", path.display());
    }
    Ok(results)
}
