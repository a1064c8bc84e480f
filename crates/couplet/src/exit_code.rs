//! What the process returns to its shell.

/// The command did what it was asked to do.
pub(crate) const DONE: u8 = 0;
/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// The config or the arguments are wrong; clap uses the same code.
pub(crate) const USAGE: u8 = 2;
/// A rank of the run was lost: what was saved goes on with `--resume`. As `EX_TEMPFAIL`, which means "try again".
pub(crate) const TRY_AGAIN: u8 = 75;
/// A signal stopped the run: 128 + SIGINT, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;
