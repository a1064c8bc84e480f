//! `couplet watch`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use couplet_pages::find_runs;
use couplet_serve::{Watched, watch_routes};

use super::listening::{self, ListenArguments};
use crate::{exit_code, program};

#[derive(Debug, Args)]
pub(crate) struct WatchArguments {
    /// Folders of runs, running or not, or folders that hold such
    #[arg(value_name = "FOLDER", default_value = "runs")]
    folders: Vec<PathBuf>,
    #[command(flatten)]
    listen: ListenArguments,
}

pub(crate) fn run(arguments: &WatchArguments) -> anyhow::Result<u8> {
    let mut count = 0;
    for folder in &arguments.folders {
        match find_runs(folder, |_, _| ()) {
            Ok(found) => count += found.len(),
            // It may begin later.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("{}: cannot be read: {error}", folder.display()),
        }
    }
    if count == 0 {
        say!("no run is there yet; the page shows those that begin");
    }
    let listening = arguments.listen.open()?;
    say!("{}  (Ctrl-C ends)", listening::url(&listening));
    let program = format!("couplet {}", program::version());
    let watched = Watched::new(&program, arguments.folders.clone());
    listening.serve(watch_routes(watched));
    Ok(exit_code::DONE)
}
