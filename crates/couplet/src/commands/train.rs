//! `couplet train`.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, anyhow};
use couplet_eval::MetricInfo;
use couplet_train::{Outcome, RunConfig, RunFolder, StopReason, StopSignal};

use crate::progress::{Progress, Screen};
use crate::{EXIT_INTERRUPTED, TrainArguments};

pub(crate) fn train(arguments: &TrainArguments) -> anyhow::Result<u8> {
    if arguments.dashboard {
        check_dashboard()?;
    }
    let checked = RunConfig::read(&arguments.config, &arguments.set)?;
    let config = &checked.config;
    let default_path = || Path::new("runs").join(&config.name);
    let path = arguments.run_dir.clone().unwrap_or_else(default_path);
    let folder = if arguments.resume {
        RunFolder::resume(&path, config)?
    } else if arguments.overwrite {
        RunFolder::overwrite(&path, config)?
    } else {
        RunFolder::create(&path, config)?
    };
    for change in folder.changed() {
        println!("changed    {change}");
    }
    let stop = stop_on_signals()?;
    let mut screen = screen(arguments, &stop);
    let outcome = couplet_train::train(&checked, &folder, &stop, screen.as_mut());
    screen.finish();
    let outcome = outcome
        .map_err(|error| anyhow!(error).context(format!("{}: the run failed", path.display())))?;
    print_outcome(arguments, &checked.config, &path, &outcome);
    Ok(match outcome.ending {
        StopReason::Interrupted => EXIT_INTERRUPTED,
        StopReason::Finished | StopReason::AlreadyFinished => 0,
    })
}

/// Whether the dashboard can be drawn, found out before a folder is made.
fn check_dashboard() -> anyhow::Result<()> {
    if cfg!(not(feature = "dashboard")) {
        return Err(anyhow!(
            "this binary was built without the dashboard; build it with `--features dashboard`"
        ));
    }
    if !std::io::stdout().is_terminal() {
        return Err(anyhow!("--dashboard needs a terminal to draw in"));
    }
    Ok(())
}

/// A progress line, or the dashboard.
fn screen(arguments: &TrainArguments, stop: &StopSignal) -> Box<dyn Screen> {
    #[cfg(feature = "dashboard")]
    if arguments.dashboard {
        return Box::new(crate::dashboard::Dashboard::new(stop.clone()));
    }
    let _ = (arguments, stop);
    Box::new(Progress::new())
}

/// The first SIGINT or SIGTERM lets the step finish; the second ends the process.
pub(super) fn stop_on_signals() -> anyhow::Result<StopSignal> {
    let stop = StopSignal::default();
    let signal = stop.clone();
    let mut asked = false;
    ctrlc::set_handler(move || {
        if asked {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        asked = true;
        eprintln!("\nstopping after this step; once more to stop at once");
        signal.stop();
    })
    .context("cannot listen for signals")?;
    Ok(stop)
}

fn print_outcome(arguments: &TrainArguments, config: &RunConfig, path: &Path, outcome: &Outcome) {
    let folder = path.display();
    let resume = || {
        let mut command = format!("couplet train {}", arguments.config.display());
        for set in &arguments.set {
            command.push_str(&format!(" --set '{set}'"));
        }
        if let Some(run_dir) = &arguments.run_dir {
            command.push_str(&format!(" --run-dir {}", run_dir.display()));
        }
        command + " --resume"
    };
    match outcome.ending {
        StopReason::Finished => {
            println!(
                "\nfinished {} steps in {}",
                outcome.steps,
                clock(outcome.seconds)
            );
        }
        StopReason::AlreadyFinished => {
            println!(
                "\nnothing to do: all {} steps are behind this run",
                outcome.steps
            );
        }
        StopReason::Interrupted => println!("\nstopped after step {}", outcome.steps),
    }
    if let Some(best) = &outcome.best {
        let (metric, step) = (&best.metric, best.step);
        let info = MetricInfo::of_logged(metric);
        let value = info.map_or(best.value.to_string(), |info| info.unit.format(best.value));
        println!("best       {metric} = {value} at step {step}");
    } else if let Some(wanted) = &config.checkpoint.best
        && outcome.ending != StopReason::Interrupted
    {
        println!("best       none: {wanted} was never measured; the warnings above say why");
    }
    println!("run        {folder} (config.toml, metrics.jsonl, skipped.jsonl)");
    if let Some(checkpoint) = &outcome.checkpoint {
        println!("checkpoint {}", checkpoint.path.display());
    }
    if outcome.ending == StopReason::Interrupted {
        println!("continue   {}", resume());
    } else if let Some(couplet_train::config::EvalConfig::ZeroShot(eval)) = config.eval.first() {
        println!(
            "next       couplet eval zero-shot --model {folder} --dataset {}",
            eval.dataset.display()
        );
    }
}

fn clock(seconds: f64) -> String {
    let duration = std::time::Duration::from_secs_f64(seconds);
    indicatif::HumanDuration(duration).to_string()
}
