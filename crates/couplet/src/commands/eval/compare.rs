//! `couplet eval compare`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use couplet_eval::metric::EVALUATION;
use couplet_eval::{MetricInfo, Pointer, Unit, checkpoint_step, choose_model, read_pointer};
use couplet_pages::{Curve, evaluations};
use couplet_train::config::{ConfigDifference, config_differences};
use serde_json::{Value, json};

use super::curves;
use super::result_arguments::write_text;
use crate::exit_code;
use crate::json_output::JsonArguments;
use crate::printing;
use crate::table::Table;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Run folders to compare with the first: the best and the last value of each metric, and the
    /// keys of the configs that differ
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Compare the last values only
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    pub(super) json: JsonArguments,
    /// Write the table to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
}

/// A value of a metric and its step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct At {
    value: f64,
    step: u64,
}

/// What a run logged of a metric.
#[derive(Debug, Clone, Copy)]
struct Logged {
    /// The best value; the last one if neither direction is better.
    best: At,
    last: At,
    /// At the checkpoint that `--model RUN` opens; the last one before, if it was not evaluated there.
    opened: Option<At>,
}

/// A run's evaluations by metric, as `DATASET/METRIC`.
type Results = BTreeMap<String, Logged>;

struct Run {
    name: String,
    /// What `--model RUN` opens, in words.
    opens: String,
    /// Whether that is the best checkpoint, not the latest.
    is_best: bool,
    results: Results,
    /// All values of each metric.
    curves: BTreeMap<String, Curve>,
}

/// Prints each metric with a row per run, and the keys of the configs that differ.
pub(super) fn run(arguments: &CompareArguments) -> anyhow::Result<u8> {
    let runs = read_all(&arguments.runs, arguments.last)?;
    if runs.iter().all(|run| run.results.is_empty()) {
        bail!(
            "none of the runs has logged an evaluation; add [[eval]] or [data.val] to their configs"
        );
    }
    let columns = terminal::table_columns();
    for run in &runs {
        printing::line(&format!(
            "{}: --model opens the checkpoint {}",
            run.name, run.opens
        ));
    }
    printing::block(&format!(
        "\n{}",
        table(&runs, arguments.last).render(columns)
    ));
    let curves = runs.iter().map(|run| (run.name.as_str(), &run.curves));
    if let Some(table) = curves::table(&curves.collect::<Vec<_>>()) {
        printing::block(&format!("\n{}", table.render(columns)));
    }
    let differences = differences_of(&arguments.runs);
    if runs.len() > 1 {
        let text = match &differences[..] {
            [] => "the configs do not differ".to_string(),
            found => config_table(&runs, found).render(columns),
        };
        printing::block(&format!("\n{text}"));
    }
    if arguments.json.is_given() {
        arguments.json.write(&to_json(&runs, &differences))?;
    }
    if let Some(file) = &arguments.csv {
        write_text(file, to_csv(&runs))?;
    }
    Ok(exit_code::DONE)
}

fn to_json(runs: &[Run], differences: &[ConfigDifference]) -> Vec<Value> {
    let first = &runs[0].results;
    let of_run = |(at, run): (usize, &Run)| {
        let at_step = |at: At| json!({ "value": at.value, "step": at.step });
        let metrics = run.results.iter().map(|(metric, logged)| {
            let mut value = json!({
                "value": logged.opened.map(|at| at.value),
                "step": logged.opened.map(|at| at.step),
                "best": at_step(logged.best),
                "last": at_step(logged.last),
            });
            if let Some(base) = first.get(metric).filter(|_| at > 0) {
                value["delta"] = json!({
                    "best": logged.best.value - base.best.value,
                    "last": logged.last.value - base.last.value,
                });
            }
            (metric.clone(), value)
        });
        let config = differences
            .iter()
            .map(|one| (one.key.clone(), one.values[at].clone().into()));
        json!({
            "run": run.name,
            "checkpoint": if run.is_best { "best" } else { "last" },
            "opens": run.opens,
            "metrics": metrics.collect::<serde_json::Map<_, _>>(),
            "config": config.collect::<serde_json::Map<String, Value>>(),
        })
    };
    runs.iter().enumerate().map(of_run).collect()
}

fn to_csv(runs: &[Run]) -> String {
    let mut text = "run,metric,value,step,best,best_step,last,last_step\n".to_string();
    for Run { name, results, .. } in runs {
        for (metric, logged) in results {
            let (value, step) = logged.opened.map_or((String::new(), String::new()), |at| {
                (at.value.to_string(), at.step.to_string())
            });
            let (best, last) = (logged.best, logged.last);
            text.push_str(&format!(
                "{name},{metric},{value},{step},{},{},{},{}\n",
                best.value, best.step, last.value, last.step
            ));
        }
    }
    text
}

/// The keys of the runs' configs that differ; none if a config cannot be read.
fn differences_of(runs: &[PathBuf]) -> Vec<ConfigDifference> {
    let mut texts = Vec::new();
    for run in runs {
        let path = run.join("config.toml");
        match fs::read_to_string(&path) {
            Ok(text) => texts.push(text),
            Err(error) => {
                printing::warn(&format!("{}: cannot be read: {error}", path.display()));
                return Vec::new();
            }
        }
    }
    config_differences(&texts).unwrap_or_else(|(at, error)| {
        let path = runs[at].join("config.toml");
        printing::warn(&format!("{}: {error}", path.display()));
        Vec::new()
    })
}

/// The runs by their folders' names, or by their paths where two names are the same.
fn read_all(folders: &[PathBuf], last: bool) -> anyhow::Result<Vec<Run>> {
    let runs = folders.iter().map(|run| {
        let curves = evaluations(run)?;
        if curves.is_empty() {
            let log = run.join("metrics.jsonl");
            printing::warn(&format!("{}: contains no evaluation", log.display()));
        }
        let name = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy();
        let best = best_step(run).filter(|_| !last);
        let opens = choose_model(run).ok().and_then(|chosen| chosen.checkpoint);
        Ok(Run {
            name: name.into_owned(),
            opens: opens.map_or("–: there is none".into(), |chosen| chosen.to_string()),
            is_best: best.is_some(),
            results: results(&curves, best),
            curves,
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

/// A row for each run below the name of each metric: the values, their steps, and how they differ from the
/// first run's. The best value of several runs is marked.
fn table(runs: &[Run], last_only: bool) -> Table {
    type Part = (&'static str, fn(&Logged) -> At);
    let all: [Part; 2] = [
        ("best", |logged| logged.best),
        ("last", |logged| logged.last),
    ];
    let parts = if last_only { &all[1..] } else { &all[..] };
    let is_compared = runs.len() > 1;
    let per_part = if is_compared { 3 } else { 2 };
    let mut head = vec!["metric".to_string()];
    for (name, _) in parts {
        let heads = [&format!("{name} "), "step", "delta"];
        head.extend(heads[..per_part].iter().map(ToString::to_string));
    }
    let width = head.len();
    let mut table = Table::new(head);
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.results.keys()).collect();
    for name in names {
        let info = info_of(name);
        let mut row = vec![String::new(); width];
        row[0].clone_from(name);
        table.row(row);
        for (at_run, run) in runs.iter().enumerate() {
            let mut cells = vec![format!("  {}", run.name)];
            for (_, part) in parts {
                let values = || {
                    runs.iter()
                        .filter_map(|run| run.results.get(name))
                        .map(part)
                };
                let Some(at) = run.results.get(name).map(part) else {
                    cells.extend(["– ", "", ""][..per_part].iter().map(ToString::to_string));
                    continue;
                };
                let best = info.and_then(|info| best(info, values().map(|at| at.value)));
                let is_tie = values().all(|other| other.value == at.value);
                let mark = if best == Some(at.value) && !is_tie {
                    '*'
                } else {
                    ' '
                };
                let unit = info.map_or(Unit::Factor, |info| info.unit);
                let base = runs[0].results.get(name).map(part);
                let base = base.filter(|_| at_run > 0);
                let delta = base.map_or(String::new(), |base| delta(unit, at.value - base.value));
                let value = format!("{}{mark}", unit.format(at.value));
                cells.extend(
                    [value, at.step.to_string(), delta]
                        .into_iter()
                        .take(per_part),
                );
            }
            table.row(cells);
        }
    }
    table
}

/// A difference with its sign: of shares in percentage points, without the sign of percent.
fn delta(unit: Unit, difference: f64) -> String {
    let text = unit.format(difference.abs());
    let text = text.trim_end_matches('%');
    let is_zero = text.chars().all(|c| ['0', '.'].contains(&c));
    let sign = match difference {
        _ if is_zero => "",
        d if d < 0.0 => "-",
        _ => "+",
    };
    format!("{sign}{text}")
}

/// A row for each key of the configs that differs, and a column for each run.
fn config_table(runs: &[Run], differences: &[ConfigDifference]) -> Table {
    let names = runs.iter().map(|run| run.name.clone());
    let mut table = Table::new(std::iter::once("config".to_string()).chain(names).collect());
    for one in differences {
        let values = one.values.iter();
        let values = values.map(|value| value.clone().unwrap_or("–".into()));
        table.row(std::iter::once(one.key.clone()).chain(values).collect());
    }
    table
}

/// The best of a row's values, if one direction is better.
fn best(info: MetricInfo, values: impl Iterator<Item = f64>) -> Option<f64> {
    let better = info.better?;
    values.min_by(|a, b| better.compare(*a, *b))
}

fn info_of(metric: &str) -> Option<MetricInfo> {
    MetricInfo::of_logged(&format!("{EVALUATION}{metric}"))
}

/// What a run logged of each metric.
/// - best: the step of the checkpoint that `--model RUN` opens, if it is not the latest.
fn results(curves: &BTreeMap<String, Curve>, best: Option<u64>) -> Results {
    let logged = curves.iter().filter_map(|(metric, curve)| {
        let better = info_of(metric).and_then(|info| info.better);
        let mut points = curve.iter().map(|(step, value)| At {
            value: *value,
            step: *step,
        });
        let first = points.next()?;
        let is_opened = |at: &At| best.is_none_or(|best| at.step <= best);
        let mut logged = Logged {
            best: first,
            last: first,
            opened: Some(first).filter(is_opened),
        };
        for now in points {
            logged.last = now;
            if better.is_none_or(|better| better.is_better(now.value, logged.best.value)) {
                logged.best = now;
            }
            if is_opened(&now) {
                logged.opened = Some(now);
            }
        }
        Some((metric.clone(), logged))
    });
    logged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, lines: &[(u64, f64, f64, f64)]) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let lines = lines.iter().map(|(step, top1, rank, loss)| {
            format!(
                r#"{{"step":{step},"epoch":1,"samples_seen":8,"time":1,"eval/set/top1":{top1},"eval/set/text_to_image_median_rank":{rank},"eval/val/loss":{loss},"eval/val/new":0.25,"eval/set/images":40}}"#
            ) + "\n"
        });
        let text: String = lines.collect();
        fs::write(
            folder.path().join("metrics.jsonl"),
            text + "{\"step\":9,\"ev",
        )
        .unwrap();
        let curves = evaluations(folder.path()).unwrap();
        Run {
            name: name.into(),
            opens: String::new(),
            is_best: false,
            results: results(&curves, Some(20)),
            curves,
        }
    }

    fn runs() -> [Run; 2] {
        [
            run(
                "a",
                &[
                    (10, 0.5, 3.0, 1.5),
                    (20, 0.75, 2.0, 1.25),
                    (30, 0.625, 2.0, 1.5),
                ],
            ),
            run(
                "b",
                &[
                    (10, 0.5, 3.0, 1.5),
                    (20, 1.0, 4.0, 1.75),
                    (30, 0.5, 3.5, 2.0),
                ],
            ),
        ]
    }

    #[test]
    fn best_and_last_values_have_their_steps_and_deltas() {
        let wanted =
            "  metric                            best   step    delta    last   step    delta
  set/text_to_image_median_rank
    a                                2.0*    20              2.0*    30
    b                                3.0     10     +1.0     3.5     30     +1.5
  set/top1
    a                             75.00%     20           62.50%*    30
    b                            100.00%*    20   +25.00  50.00%     30   -12.50
  val/loss
    a                             1.2500*    20           1.5000*    30
    b                             1.5000     10  +0.2500  2.0000     30  +0.5000
  val/new
    a                             0.2500     30           0.2500     30
    b                             0.2500     30   0.0000  0.2500     30   0.0000";
        assert_eq!(table(&runs(), false).render(80), wanted);
        let one = table(&runs()[..1], true).render(80);
        assert!(!one.contains("best") && !one.contains("delta") && !one.contains('*'));
    }

    #[test]
    fn json_and_csv_have_the_numbers_of_the_table() {
        let differs = ConfigDifference {
            key: "optimizer.lr".into(),
            values: vec![Some("0.001".into()), None],
        };
        let json = to_json(&runs(), &[differs]);
        let top1 = &json[1]["metrics"]["set/top1"];
        assert_eq!(top1["best"], json!({ "value": 1.0, "step": 20 }));
        assert_eq!(top1["last"], json!({ "value": 0.5, "step": 30 }));
        assert_eq!(top1["delta"], json!({ "best": 0.25, "last": -0.125 }));
        // At the checkpoint that is opened.
        assert_eq!((&top1["value"], &top1["step"]), (&json!(1.0), &json!(20)));
        assert!(json[0]["metrics"]["set/top1"].get("delta").is_none());
        assert_eq!(json[0]["config"]["optimizer.lr"], "0.001");
        assert!(json[1]["config"]["optimizer.lr"].is_null());
        let csv = to_csv(&runs());
        assert!(csv.contains("b,set/top1,1,20,1,20,0.5,30\n"), "{csv}");
    }
}
