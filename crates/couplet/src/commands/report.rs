//! `couplet report`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use couplet_data::with_causes;
use couplet_eval::{ChosenModel, Encoder, checkpoint_step, choose_model};
use couplet_pages::{Findings, Looked, Report, Run, Stored};
use couplet_train::{ConfigInput, DeviceCheck, DeviceSetting, ResolvedRun};

use super::output_file;
use super::train::enter_working_dir;
use crate::json_output::JsonArguments;
use crate::progress::{Progress, Screen};
use crate::{exit_code, printing, program};

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Folders of runs, finished or not, to show side by side
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page: one HTML file that needs no network
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Images of each evaluation's dataset that the model is shown, evenly spaced. What is found is kept in
    /// the run's folder, in findings/
    #[arg(long, value_name = "N", default_value_t = Looked::default().images)]
    images: usize,
    /// Pairs of the training data, and of what is held out, that the model is shown
    #[arg(long, value_name = "N", default_value_t = Looked::default().pairs)]
    pairs: usize,
    /// Do not open the models: no predictions, confusions, worst pairs and map of features
    #[arg(long, conflicts_with_all = ["images", "pairs", "device"])]
    no_model: bool,
    #[command(flatten)]
    json: JsonArguments,
    /// Device that the models run on: auto, cpu, cuda:N, rocm:N, metal, vulkan or wgpu
    #[arg(long, default_value = "auto")]
    device: DeviceSetting,
}

pub(crate) fn run(arguments: &ReportArguments) -> anyhow::Result<u8> {
    output_file::check(&arguments.out)?;
    arguments.json.begin()?;
    let here = std::env::current_dir().context("the working directory is gone")?;
    let runs = arguments.runs.iter().map(|path| {
        let run = Run::read(path)?;
        if arguments.no_model {
            return Ok(run);
        }
        let found = findings(&here.join(path), arguments);
        // Looking at a run's data may have gone to where its paths start.
        std::env::set_current_dir(&here)?;
        Ok(run.with_findings(found))
    });
    let runs: Vec<Run> = runs.collect::<anyhow::Result<_>>()?;
    let count = runs.len();
    let report = Report::new(&program_name(), runs);
    let page = report.html();
    output_file::write_whole(&arguments.out, |path| Ok(fs::write(path, &page)?))?;
    if arguments.json.is_given() {
        arguments.json.write(&report)?;
    }
    let what = if count == 1 {
        "the run".to_string()
    } else {
        format!("{count} runs")
    };
    say!("wrote a report of {what} to {}", arguments.out.display());
    Ok(exit_code::DONE)
}

fn program_name() -> String {
    format!("couplet {}", program::version())
}

/// What the run's folder has of them, or what a look at its model and data finds.
/// - run: an absolute path.
fn findings(run: &Path, arguments: &ReportArguments) -> Stored {
    let looked = Looked {
        images: arguments.images,
        pairs: arguments.pairs,
    };
    let (step, weights) = match choose_model(run) {
        Ok(ChosenModel { path, .. }) => (checkpoint_step(&path), path),
        Err(error) => {
            let none = Findings::none(with_causes(&error));
            return Stored::new(&program_name(), (None, Path::new("")), looked, none);
        }
    };
    let name = weights.strip_prefix(run).unwrap_or(&weights).to_path_buf();
    if let Some(stored) = Stored::read(run, &program_name(), &name, looked) {
        return stored;
    }
    let found = look(run, looked, arguments.device);
    let is_found = found.is_ok();
    let found = found.unwrap_or_else(|error| {
        let problem = format!("{error:#}");
        printing::warn(&format!("{}: {problem}", run.display()));
        Findings::none(problem)
    });
    let stored = Stored::new(&program_name(), (step, &name), looked, found);
    // What an earlier look has found stays.
    if is_found && let Err(error) = stored.write(run) {
        printing::warn(&format!(
            "{}: what was found cannot be kept there: {error}",
            couplet_pages::findings_folder(run).display()
        ));
    }
    stored
}

fn look(run: &Path, looked: Looked, device: DeviceSetting) -> anyhow::Result<Findings> {
    let config = run.join("config.toml");
    if !config.is_file() {
        bail!("the run has no config.toml, which names its data");
    }
    let device = device.open().context("--device cannot be used")?;
    let encoder = Encoder::open(run, &device)?;
    enter_working_dir(run);
    let input = ConfigInput::new(&config, &[]);
    let resolved = ResolvedRun::open_to_resume(&input, DeviceCheck::Skip, Some(run))
        .context("the run's data cannot be opened")?;
    let mut progress = Progress::new();
    let found = Findings::of(&encoder, &resolved, looked, |name, done, of| {
        progress.evaluating(name, done, of);
    });
    progress.finish();
    Ok(found)
}
