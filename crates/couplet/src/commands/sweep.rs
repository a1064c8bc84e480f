//! `couplet sweep`.

use std::path::PathBuf;

use clap::Args;
use couplet_eval::Unit;
use couplet_train::{Sweep, TrialResult};

use super::config_arguments::DataArguments;
use super::train::stop_on_signals;
use crate::exit_code;
use crate::progress::{Progress, Screen};

#[derive(Debug, Args)]
pub(crate) struct SweepArguments {
    /// TOML file that describes the sweep; finished trials are not run again
    sweep: PathBuf,
    /// Folder for the trials and their ranking [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    data: DataArguments,
}

pub(crate) fn run(arguments: &SweepArguments) -> anyhow::Result<u8> {
    let (run_dir, data_root) = (arguments.run_dir.as_deref(), arguments.data.root());
    let sweep = Sweep::read(&arguments.sweep, run_dir, data_root)?;
    let trials = sweep.trials();
    println!("{} trials in {}", trials.len(), sweep.folder().display());
    if let Some(warning) = sweep.warning() {
        eprintln!("warning: {warning}");
    }
    let (metric, unit) = (sweep.metric(), sweep.metric_info().unit);
    let stop = stop_on_signals()?;
    let mut results = Vec::new();
    for (at, trial) in trials.iter().enumerate() {
        println!("\n{} of {}  {}", at + 1, trials.len(), trial.set.join("  "));
        let mut progress = Progress::new();
        let result = sweep.run(trial, &stop, &mut progress);
        progress.finish();
        let Some(result) = result? else {
            let run_dir = (arguments.run_dir.as_ref()).map_or(String::new(), |path| {
                format!(" --run-dir {}", path.display())
            });
            println!(
                "\nstopped in {}\ncontinue   couplet sweep {}{run_dir}",
                trial.name,
                arguments.sweep.display()
            );
            return Ok(exit_code::INTERRUPTED);
        };
        println!("{}", describe(&result, metric, unit));
        results.push(result);
        sweep.rank(&mut results)?;
    }
    let path = sweep.rank(&mut results)?;
    println!("\n{}", table(&results, metric, unit));
    println!("ranking    {}", path.display());
    let all_failed = results.iter().all(|result| result.value.is_none());
    Ok(if all_failed {
        exit_code::FAILED
    } else {
        exit_code::DONE
    })
}

fn describe(result: &TrialResult, metric: &str, unit: Unit) -> String {
    match (result.value, result.step, &result.error) {
        (Some(value), Some(step), _) => {
            format!("{metric} = {} at step {step}", unit.format(value))
        }
        (_, _, Some(error)) => format!("no result: {error}"),
        _ => "no result".to_string(),
    }
}

fn table(results: &[TrialResult], metric: &str, unit: Unit) -> String {
    let width = metric.len().max(8);
    let mut text = format!("rank  {metric:>width$}  {:>6}  trial      set", "step");
    for (at, result) in results.iter().enumerate() {
        let value = result.value.map_or("-".into(), |value| unit.format(value));
        let step = result.step.map_or("-".into(), |step| step.to_string());
        text.push_str(&format!(
            "\n{:4}  {value:>width$}  {step:>6}  {}  {}",
            at + 1,
            result.trial,
            result.set.join("  ")
        ));
    }
    text
}
