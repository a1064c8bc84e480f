//! `couplet train`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use couplet_data::paths::{PathBase, normalized};
use couplet_eval::{CHECKPOINTS_FOLDER, MetricInfo, checkpoint_name};
use couplet_train::config::EvalConfig;
use couplet_train::{
    AllowedChanges, DeviceCheck, DeviceSetting, Outcome, Ranks, ResolvedRun, RunConfig, RunFolder,
    RunPlace, StopReason, StopSignal,
};

use super::config_arguments::ConfigArguments;
use super::numbers::positive;
use crate::exit_code;
use crate::printing;
use crate::program::program;
use crate::progress::{Progress, Screen};
use crate::quantities::{count, duration};
use crate::ranks::{self, Survivor};
use crate::signals::stop_on_signals;
use crate::terminal::{self, Stream};

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct TrainArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Folder for checkpoints and logs [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Continue from the run folder's latest checkpoint, or start if it has none. CONFIG may be the
    /// folder of the run instead of a file
    #[arg(long)]
    resume: bool,
    /// Continue although the config or the data changed, where a run can go on with the change. A
    /// longer `schedule.length`, other places of the same data and keys of `[log]`, `[checkpoint]` and
    /// `[[eval]]` need no permission
    #[arg(long, requires = "resume")]
    allow_changes: bool,
    /// Delete the run that the folder contains and start again
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Plot the metrics in the terminal; press q to stop. Needs a build with `--features dashboard`
    #[arg(long)]
    dashboard: bool,
    /// Serve a page that follows the run, at 127.0.0.1:7860 or at the address given as --page=ADDRESS
    #[cfg(feature = "serve")]
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = super::listening::ADDRESS
    )]
    page: Option<std::net::SocketAddr>,
    /// How long ranks wait for each other, in minutes, before they end the run. Rank 0 must write a
    /// checkpoint in this time
    #[arg(long, value_name = "MINUTES", default_value = "30", value_parser = minutes)]
    patience: Duration,
}

/// Columns of the labels of what is printed at the end.
const LABEL: usize = 11;

/// A time above 0.
fn minutes(text: &str) -> Result<Duration, String> {
    let time = Duration::try_from_secs_f64(60.0 * positive(text)?);
    time.map_err(|_| "expected a number of minutes".into())
}

pub(crate) fn run(arguments: &TrainArguments) -> anyhow::Result<u8> {
    let stop = stop_on_signals()?;
    let ranks = ranks::start(arguments.patience)?;
    let mut folder = None;
    let result = run_on(arguments, &ranks, &stop, &mut folder);
    ranks::end(ranks, folder.as_deref(), result)
}

/// Trains as one of the ranks.
/// - opened: gets the run's folder, once rank 0 has opened it.
fn run_on(
    arguments: &TrainArguments,
    ranks: &Ranks,
    stop: &StopSignal,
    opened: &mut Option<PathBuf>,
) -> anyhow::Result<u8> {
    let (run, path) = ranks::agree(ranks, resolve(arguments, ranks))?;
    #[cfg(feature = "serve")]
    let page = ranks::agree(ranks, listen_for_page(arguments, ranks))?;
    let folder = (ranks.is_first()).then(|| open_folder(arguments, &run, &path));
    let folder = ranks::agree(ranks, folder.transpose())?;
    #[cfg(feature = "serve")]
    if let Some(page) = page {
        serve_page(page, &path);
    }
    *opened = Some(path.clone());
    let place = match &folder {
        Some(folder) => RunPlace::Open(folder),
        None => RunPlace::Path(&path),
    };
    let mut screen = screen(arguments, ranks, stop);
    let outcome = couplet_train::train_on_ranks(&run, place, ranks, stop, screen.as_mut());
    screen.finish();
    let outcome = outcome
        .map_err(|error| anyhow!(error).context(format!("{}: the run failed", path.display())))?;
    print_outcome(arguments, &run.config, &path, &outcome);
    let ranks = ranks.place().ranks;
    if outcome.ending == StopReason::Interrupted && ranks > 1 {
        printing::line(&format!(
            "{:LABEL$}by the launcher of your choice, such as `mpirun -n {ranks}`, with any number of ranks that \
             divides batch.parts",
            ""
        ));
    }
    Ok(match outcome.ending {
        StopReason::Interrupted => exit_code::INTERRUPTED,
        StopReason::Finished | StopReason::Guarded | StopReason::AlreadyFinished => exit_code::DONE,
    })
}

/// Takes the page's address before there is a folder, on the rank that shows it.
#[cfg(feature = "serve")]
fn listen_for_page(
    arguments: &TrainArguments,
    ranks: &Ranks,
) -> anyhow::Result<Option<couplet_serve::Listening>> {
    let address = arguments.page.filter(|_| ranks.is_first());
    address.map(super::listening::open).transpose()
}

/// Shows the run's page until the process ends.
#[cfg(feature = "serve")]
fn serve_page(page: couplet_serve::Listening, run: &Path) {
    printing::line(&format!("page       {}", super::listening::url(&page)));
    let program = format!("couplet {}", crate::program::version());
    let watched = couplet_serve::Watched::of_run(&program, run.to_path_buf());
    page.serve_beside(couplet_serve::watch_routes(watched));
}

/// Opens what the config names.
/// - returns it with the run's folder.
fn resolve(arguments: &TrainArguments, ranks: &Ranks) -> anyhow::Result<(ResolvedRun, PathBuf)> {
    printing::record();
    if arguments.dashboard && ranks.is_first() {
        check_dashboard()?;
    }
    let file = &arguments.config.path;
    let absolute = |path: &Path| std::path::absolute(path).context("the working directory is gone");
    let data_root = arguments.config.data.root().map(absolute).transpose()?;
    let here = PathBase::command_line(&absolute(Path::new("."))?, data_root.as_deref());
    let (file, run_dir) = if file.is_dir() {
        from_folder(file, arguments)?
    } else {
        (file.clone(), arguments.run_dir.clone())
    };
    let set = arguments.config.set();
    let mut input = arguments.config.input(&set);
    input.path = &file;
    if arguments.config.path.is_dir() {
        // The directory is now that of the run.
        (input.set_base, input.data_root) = (Some(&here), data_root.as_deref());
    }
    let mut run = if arguments.resume {
        ResolvedRun::open_to_resume(&input, DeviceCheck::Local, run_dir.as_deref())?
    } else {
        ResolvedRun::open_input(&input, DeviceCheck::Local)?
    };
    let place = ranks.place();
    if !arguments.resume {
        // Before there is a folder; the trainer knows what a resumed run needs.
        run.check_ranks(place.ranks)?;
    }
    if place.local_ranks > 1 {
        // Rank 0, which saves the config, is the first of its machine: its value stays the user's.
        run.config.device = run.config.device.of_local_rank(place.local_rank);
        describe_devices(run.config.device, place.local_ranks);
    }
    let path = run_dir.unwrap_or_else(|| RunConfig::folder_of(&run.config.name));
    Ok((run, path))
}

/// Prints how the ranks of this machine share its devices.
fn describe_devices(device: DeviceSetting, local_ranks: usize) {
    let found = device.resolved();
    if found == DeviceSetting::Flex {
        return;
    }
    let seen = device.devices_like_it();
    if seen >= local_ranks {
        say!("device     {found} on this rank, the next on each further one of the machine");
    } else {
        printing::warn(&format!(
            "{local_ranks} ranks of this machine see {} like {found}; unless the launcher has given each rank its \
             own, they share them",
            count(seen as u64, "device")
        ));
    }
}

fn open_folder(
    arguments: &TrainArguments,
    run: &ResolvedRun,
    path: &Path,
) -> anyhow::Result<RunFolder> {
    let folder = if arguments.resume {
        let allowed = if arguments.allow_changes {
            AllowedChanges::All
        } else {
            AllowedChanges::Longer
        };
        RunFolder::resume(path, run, allowed)?
    } else if arguments.overwrite {
        RunFolder::overwrite(path, &run.config)?
    } else {
        RunFolder::create(path, &run.config)?
    };
    let folder = folder.with_program(program());
    for change in folder.changed() {
        printing::line(&format!("changed    {change}"));
    }
    Ok(folder)
}

/// The config of a run's folder, and the folder. Relative paths in the config mean what they meant when
/// the run began: they start from its working directory.
fn from_folder(
    folder: &Path,
    arguments: &TrainArguments,
) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    let shown = folder.display();
    let file = folder.join("config.toml");
    if !file.is_file() {
        return Err(anyhow!(
            "{shown}: a folder without a config.toml, so not that of a run; give the run's folder or a \
             config file"
        ));
    }
    if !arguments.resume {
        return Err(anyhow!(
            "{shown}: the folder of a run; continue it with --resume, or give a config file to start \
             another"
        ));
    }
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).context("the working directory is gone");
        path.map(|path| normalized(&path))
    };
    let (file, run_dir) = (
        absolute(&file)?,
        absolute(arguments.run_dir.as_deref().unwrap_or(folder))?,
    );
    enter_working_dir(folder);
    Ok((file, Some(run_dir)))
}

/// Goes to the directory that the relative paths in a run's config start from.
pub(super) fn enter_working_dir(run: &Path) {
    let began_in = RunFolder::working_dir(run);
    let here = std::env::current_dir().ok();
    if let Some(began_in) = began_in.filter(|began_in| Some(began_in) != here.as_ref()) {
        let shown = began_in.display();
        if std::env::set_current_dir(&began_in).is_ok() {
            printing::line(&format!("paths      relative ones start from {shown}"));
        } else {
            printing::line(&format!(
                "paths      relative ones start from here: {shown}, where the run began, is gone"
            ));
        }
    }
}

/// Fails before a folder is created if the dashboard cannot be shown.
fn check_dashboard() -> anyhow::Result<()> {
    if cfg!(not(feature = "dashboard")) {
        return Err(anyhow!(
            "--dashboard: this binary was built without it; rebuild with `--features dashboard`"
        ));
    }
    if !std::io::stdout().is_terminal() {
        return Err(anyhow!("--dashboard needs a terminal"));
    }
    Ok(())
}

/// A progress bar, or the dashboard.
fn screen(arguments: &TrainArguments, ranks: &Ranks, stop: &StopSignal) -> Box<dyn Screen> {
    if !ranks.is_first() {
        return Box::new(Survivor(ranks.clone()));
    }
    #[cfg(feature = "dashboard")]
    if arguments.dashboard {
        return Box::new(crate::dashboard::Dashboard::new(stop.clone()));
    }
    let _ = (arguments, stop);
    Box::new(Progress::new())
}

fn print_outcome(arguments: &TrainArguments, config: &RunConfig, path: &Path, outcome: &Outcome) {
    let folder = path.display();
    printing::block("");
    printing::line(&match outcome.ending {
        StopReason::Finished => {
            let (steps, time) = (count(outcome.steps, "step"), duration(outcome.seconds));
            format!("finished {steps} in {time}")
        }
        StopReason::AlreadyFinished => format!(
            "nothing to do: the run has finished all {}",
            count(outcome.steps, "step")
        ),
        StopReason::Guarded => {
            let steps = count(outcome.steps, "step");
            format!(
                "ended by [guard] after {steps}; with a larger guard.max_drop it goes on (--resume)"
            )
        }
        StopReason::Interrupted => format!("stopped after step {}", outcome.steps),
    });
    if let Some(best) = &outcome.best {
        let (metric, step) = (&best.metric, best.step);
        let info = MetricInfo::of_logged(metric);
        let value = info.map_or(best.value.to_string(), |info| info.unit.format(best.value));
        let checkpoint = path.join(CHECKPOINTS_FOLDER).join(checkpoint_name(step));
        printing::line(&format!(
            "best       {metric} = {value} at step {step}: {}",
            checkpoint.display()
        ));
    } else if let Some(wanted) = &config.checkpoint.best
        && outcome.ending != StopReason::Interrupted
    {
        let guarded = match config.guard {
            Some(_) => " on a model that [guard] let pass",
            None => "",
        };
        printing::line(&format!(
            "best       none: `{wanted}` was never measured{guarded}; see the warnings above"
        ));
    }
    if let Some(checkpoint) = &outcome.checkpoint {
        printing::line(&format!("latest     {}", checkpoint.path.display()));
    }
    printing::line(&format!(
        "run        {folder} (config.toml, metrics.jsonl, skipped.jsonl, train.log, record.json)"
    ));
    let (label, commands) = match outcome.ending {
        StopReason::Interrupted => ("continue", vec![resume_command(arguments)]),
        _ => ("next", next_commands(config, path)),
    };
    for (at, command) in commands.iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        let columns = terminal::columns(Stream::Output).unwrap_or(usize::MAX);
        let command = terminal::wrap_command(command, columns - LABEL);
        let command = command.replace('\n', &format!("\n{:LABEL$}", ""));
        printing::block(&format!("{label:LABEL$}{command}"));
    }
}

/// The command that continues an interrupted run.
fn resume_command(arguments: &TrainArguments) -> String {
    let mut command = format!("couplet train {}", quoted(&arguments.config.path));
    for set in arguments.config.set() {
        command.push_str(&format!(" --set {}", quoted(Path::new(&set))));
    }
    if let Some(root) = arguments.config.data.root() {
        command.push_str(&format!(" --data-root {}", quoted(root)));
    }
    if let Some(run_dir) = &arguments.run_dir {
        command.push_str(&format!(" --run-dir {}", quoted(run_dir)));
    }
    command + " --resume"
}

/// What one does with a trained model: evaluate it, classify images and compute features.
fn next_commands(config: &RunConfig, path: &Path) -> Vec<String> {
    let model = quoted(path);
    let eval = |command: &str, dataset: &Path| {
        let dataset = quoted(dataset);
        format!("couplet eval {command} --model {model} --dataset {dataset}")
    };
    let mut evals = config.eval.iter().filter_map(|entry| match entry {
        EvalConfig::ZeroShot(entry) => Some(eval("zero-shot", &entry.dataset)),
        EvalConfig::Retrieval(entry) => Some(eval("retrieval", &entry.dataset)),
        _ => None,
    });
    let first = match &config.classify {
        Some(classify) => eval("classification", &classify.dataset),
        None => (evals.next()).unwrap_or_else(|| eval("zero-shot", Path::new("DATASET"))),
    };
    let labels = match config.classify {
        Some(_) => "",
        None => " --labels \"a dog,a cat\"",
    };
    vec![
        first,
        format!("couplet classify --model {model}{labels} IMAGE"),
        format!("couplet embed --model {model} --images FOLDER --out images.npy"),
    ]
}

/// A path or a value as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-=:,@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_printed_as_a_shell_reads_them() {
        assert_eq!(quoted(Path::new("runs/a-1")), "runs/a-1");
        assert_eq!(quoted(Path::new("my runs/it's")), "'my runs/it'\\''s'");
    }
}
