//! `couplet sweep`.

use std::path::PathBuf;

use clap::Args;
use couplet_eval::Unit;
use couplet_train::{Sweep, TrialResult};

use super::config_arguments::DataArguments;
use crate::exit_code;
use crate::printing;
use crate::progress::{Progress, Screen};
use crate::quantities::count_of;
use crate::signals::stop_on_signals;
use crate::table::Table;
use crate::terminal;

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
    let count = count_of(trials.len(), "trial");
    say!("{count} in {}", sweep.folder().display());
    if let Some(warning) = sweep.warning() {
        printing::warn(&warning);
    }
    let (metric, unit) = (sweep.metric(), sweep.metric_info().unit);
    let stop = stop_on_signals()?;
    let mut results = Vec::new();
    for (at, trial) in trials.iter().enumerate() {
        let set = trial.set.join("  ");
        say!("\n{} of {}  {set}", at + 1, trials.len());
        let mut progress = Progress::new();
        let result = sweep.run(trial, &stop, &mut progress);
        progress.finish();
        printing::detach();
        let Some(result) = result? else {
            let run_dir = (arguments.run_dir.as_ref()).map_or(String::new(), |path| {
                format!(" --run-dir {}", path.display())
            });
            say!(
                "\nstopped in {}\ncontinue   couplet sweep {}{run_dir}",
                trial.name,
                arguments.sweep.display()
            );
            return Ok(exit_code::INTERRUPTED);
        };
        printing::line(&describe(&result, metric, unit));
        results.push(result);
        sweep.rank(&mut results)?;
    }
    let path = sweep.rank(&mut results)?;
    let table = table(&results, metric, unit).render(terminal::table_columns());
    printing::block(&format!("\n{table}"));
    say!("ranking    {}", path.display());
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

/// A row for each trial, named by its rank and what it sets.
fn table(results: &[TrialResult], metric: &str, unit: Unit) -> Table {
    let head = ["rank  set", metric, "step", "trial"];
    let mut table = Table::new(head.map(String::from).into());
    for (at, result) in results.iter().enumerate() {
        table.row(vec![
            format!("{:4}  {}", at + 1, result.set.join("  ")),
            result.value.map_or("-".into(), |value| unit.format(value)),
            result.step.map_or("-".into(), |step| step.to_string()),
            result.trial.clone(),
        ]);
    }
    table
}
