//! `couplet report`.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use couplet_pages::{Report, Run};

use super::output_file;
use crate::{exit_code, program};

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Folders of runs, finished or not, to show side by side
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page: one HTML file that needs no network
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &ReportArguments) -> anyhow::Result<u8> {
    output_file::check(&arguments.out)?;
    let runs = arguments.runs.iter().map(|run| Run::read(run));
    let runs: Vec<Run> = runs.collect::<Result<_, _>>()?;
    let count = runs.len();
    let page = Report::new(&format!("couplet {}", program::version()), runs).html();
    output_file::write_whole(&arguments.out, |path| Ok(fs::write(path, &page)?))?;
    let what = if count == 1 {
        "the run".to_string()
    } else {
        format!("{count} runs")
    };
    say!("wrote a report of {what} to {}", arguments.out.display());
    Ok(exit_code::DONE)
}
