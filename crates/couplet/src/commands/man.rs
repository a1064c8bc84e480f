//! `couplet man`.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;

use crate::exit_code;
use crate::printing;
use crate::quantities::count_of;

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Write a page for each command to this folder [default: print the page of `couplet`]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// - command: the whole command line.
pub(crate) fn run(arguments: &ManArguments, mut command: Command) -> anyhow::Result<u8> {
    let Some(folder) = &arguments.out else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        println!("{}", String::from_utf8_lossy(&page).trim_end());
        return Ok(exit_code::DONE);
    };
    let cannot_write = || format!("{}: cannot be written", folder.display());
    fs::create_dir_all(folder).with_context(cannot_write)?;
    // Each command then has its whole name, as pages and their names state it.
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages);
    for page in &pages {
        let name = page.get_filename();
        let mut text = Vec::new();
        page.render(&mut text)?;
        let path = folder.join(&name);
        fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    printing::line(&format!(
        "wrote {} to {}; read one with `man {}`",
        count_of(pages.len(), "page"),
        folder.display(),
        folder.join("couplet-train.1").display()
    ));
    Ok(exit_code::DONE)
}

/// The pages of a command and of those below it.
fn collect(command: &Command, pages: &mut Vec<Man>) {
    pages.push(Man::new(command.clone()));
    let below = command.get_subcommands();
    for command in below.filter(|command| command.get_name() != "help") {
        collect(command, pages);
    }
}
