//! The config that a command reads, with changes to its keys.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// TOML file that describes the run
    #[arg(value_name = "CONFIG")]
    pub path: PathBuf,
    /// Override a key of the config. The value is TOML, or else a string; an empty value removes
    /// the key. Repeat to override several keys
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
}
