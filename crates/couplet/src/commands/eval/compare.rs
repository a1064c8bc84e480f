//! `couplet eval compare`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_eval::metric::EVALUATION;
use couplet_eval::{MetricInfo, Pointer, Unit, checkpoint_step, read_pointer};
use serde_json::Value;

use super::result_arguments::write_text;
use crate::exit_code;
use crate::json_output::JsonArguments;

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Run folders to compare, each by the checkpoint that --model RUN opens: the best one, if the
    /// run has chosen one by `checkpoint.best`, else the last values
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Compare the last values, even of runs that have a best checkpoint
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    pub(super) json: JsonArguments,
    /// Write the table to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
}

/// A run's evaluations: the value of each metric, as `DATASET/METRIC`, and its step.
type Results = BTreeMap<String, (f64, u64)>;

/// A column of the table.
struct Run {
    name: String,
    /// Whether the values are those of the best checkpoint, not the last ones.
    is_best: bool,
    results: Results,
}

/// Prints the value of each metric, with a column per run.
pub(super) fn run(arguments: &CompareArguments) -> anyhow::Result<u8> {
    let runs = read_all(&arguments.runs, arguments.last)?;
    if runs.iter().all(|run| run.results.is_empty()) {
        bail!(
            "none of the runs has logged an evaluation; add [[eval]] or [data.val] to their configs"
        );
    }
    println!("{}", table(&runs));
    if arguments.json.is_given() {
        let runs = runs.iter().map(|run| {
            let values = run.results.iter().map(|(metric, (value, step))| {
                (
                    metric.clone(),
                    serde_json::json!({ "value": value, "step": step }),
                )
            });
            serde_json::json!({
                "run": run.name,
                "checkpoint": if run.is_best { "best" } else { "last" },
                "metrics": values.collect::<serde_json::Map<_, _>>(),
            })
        });
        arguments.json.write(&runs.collect::<Vec<Value>>())?;
    }
    if let Some(file) = &arguments.csv {
        let mut text = "run,metric,value,step\n".to_string();
        for Run { name, results, .. } in &runs {
            for (metric, (value, step)) in results {
                text.push_str(&format!("{name},{metric},{value},{step}\n"));
            }
        }
        write_text(file, text)?;
    }
    Ok(exit_code::DONE)
}

/// The runs by their folders' names, or by their paths where two names are the same.
fn read_all(folders: &[PathBuf], last: bool) -> anyhow::Result<Vec<Run>> {
    let runs = folders.iter().map(|run| {
        let name = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy();
        let best = best_step(run).filter(|_| !last);
        Ok(Run {
            name: name.into_owned(),
            is_best: best.is_some(),
            results: read(run, best)?,
        })
    });
    let mut runs: Vec<Run> = runs.collect::<anyhow::Result<_>>()?;
    let names: BTreeSet<&String> = runs.iter().map(|run| &run.name).collect();
    if names.len() < runs.len() {
        for (run, path) in runs.iter_mut().zip(folders) {
            run.name = path.display().to_string();
        }
    }
    Ok(runs)
}

/// The step of the checkpoint that `best` names, if it is still there.
fn best_step(run: &Path) -> Option<u64> {
    match read_pointer(run, "best") {
        Ok(Pointer::To(folder)) => checkpoint_step(&folder),
        _ => None,
    }
}

/// A row for each metric and a column for each run; where there are several runs, the best value
/// of a row is marked.
fn table(runs: &[Run]) -> String {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.results.keys()).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let heads = runs.iter().map(|run| run.name.chars().count());
    let column = heads.max().unwrap_or(0).max(12);
    let cell = |text: &str, mark: char| format!("  {text:>column$}{mark}");
    let row = |head: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.collect();
        format!("{head:width$}{}", cells.trim_end()) + "\n"
    };
    let mut text = row("", &mut runs.iter().map(|run| cell(&run.name, ' ')));
    for name in names {
        let info = info_of(name);
        let values = || runs.iter().map(|run| run.results.get(name).copied());
        let best = info.and_then(|info| best(info, values().flatten().map(|(value, _)| value)));
        let distinct: BTreeSet<u64> = values()
            .flatten()
            .map(|(value, _)| value.to_bits())
            .collect();
        let is_compared = distinct.len() > 1;
        let mut cells = values().map(|value| match value {
            Some((value, _)) => {
                let is_best = is_compared && best == Some(value);
                let unit = info.map_or(Unit::Factor, |info| info.unit);
                cell(&unit.format(value), if is_best { '*' } else { ' ' })
            }
            None => cell("–", ' '),
        });
        text.push_str(&row(name, &mut cells));
    }
    let steps = runs.iter().map(|run| {
        let last = run.results.values().map(|(_, step)| *step).max();
        let which = if run.is_best { "best" } else { "last" };
        let text = last.map_or("–".into(), |step| format!("{which}: {step}"));
        cell(&text, ' ')
    });
    text + row("at step", &mut { steps }).trim_end()
}

/// The best of a row's values, if one direction is better.
fn best(info: MetricInfo, values: impl Iterator<Item = f64>) -> Option<f64> {
    let better = info.better?;
    values.min_by(|a, b| better.compare(*a, *b))
}

fn info_of(metric: &str) -> Option<MetricInfo> {
    MetricInfo::of_logged(&format!("{EVALUATION}{metric}"))
}

/// The values of a run's metrics, the last ones or those of its best checkpoint.
/// - best: the best checkpoint's step. A metric that was not evaluated then counts by its last value before.
fn read(run: &Path, best: Option<u64>) -> anyhow::Result<Results> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: not a run's log; give a run's folder", path.display()))?;
    let mut results = Results::new();
    // The last line of a run in progress may be incomplete.
    for line in text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let step = line["step"].as_u64().unwrap_or(0);
        if best.is_some_and(|best| step > best) {
            continue;
        }
        for (name, value) in line.as_object().into_iter().flatten() {
            let is_count = MetricInfo::of_logged(name).is_some_and(|info| info.unit == Unit::Count);
            if let Some(value) = value.as_f64()
                && let Some(metric) = name.strip_prefix(EVALUATION)
                && !is_count
            {
                results.insert(metric.to_string(), (value, step));
            }
        }
    }
    if results.is_empty() {
        eprintln!("warning: {}: contains no evaluation", path.display());
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_show_units_and_mark_the_best_in_the_metrics_own_direction() {
        let results = |top1: f64, rank: f64, loss: f64| {
            let values = [
                ("set/top1", top1),
                ("set/text_to_image_median_rank", rank),
                ("val/loss", loss),
                ("val/of_a_later_version", 0.25),
            ];
            let pairs = values.map(|(name, value)| (name.to_string(), (value, 7)));
            Results::from(pairs)
        };
        let mut second = results(0.75, 3.5, 1.25);
        second.remove("val/loss");
        let run = |name: &str, is_best, results| Run {
            name: name.to_string(),
            is_best,
            results,
        };
        let runs = [
            run("a", false, results(0.5, 2.0, 1.5)),
            run("b", true, second),
        ];
        let text = table(&runs);
        let row = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..]
                .split_whitespace()
                .map(str::to_string)
                .collect()
        };
        assert_eq!(row("set/top1"), ["50.00%", "75.00%*"]);
        assert_eq!(row("set/text_to_image_median_rank"), ["2.0*", "3.5"]);
        // One value is compared with none.
        assert_eq!(row("val/loss"), ["1.5000", "–"]);
        assert_eq!(row("val/of_a_later_version"), ["0.2500", "0.2500"]);
        assert_eq!(row("at step"), ["last:", "7", "best:", "7"]);
        assert!(!table(&runs[..1]).contains('*'));
    }
}
