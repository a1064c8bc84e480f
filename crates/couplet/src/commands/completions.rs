//! `couplet completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit_code;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// Shell to complete in
    shell: Shell,
}

/// - command: the whole command line.
pub(crate) fn run(arguments: &CompletionsArguments, mut command: Command) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "couplet", &mut script);
    println!("{}", String::from_utf8_lossy(&script).trim_end());
    exit_code::DONE
}
