//! Keeps a process from ending in the middle of a checkpoint.

use std::sync::{Mutex, MutexGuard, PoisonError};

static WRITING: Mutex<()> = Mutex::new(());

/// Blocks while this process writes a checkpoint. None is begun as long as the guard lives, so a handler of
/// signals may end the process while it holds one.
pub fn hold_checkpoints() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}
