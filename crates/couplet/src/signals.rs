//! Signals that stop a run.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use couplet_train::{StopSignal, hold_checkpoints};

use crate::exit_code;
use crate::printing;

/// Whether a SIGINT or SIGTERM came.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether a signal came after which a launcher may soon kill this process.
pub(crate) fn is_urgent() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// The first SIGINT or SIGTERM lets the step finish; the second ends the process, though not while it writes a
/// checkpoint. With the feature `mpi`, SIGUSR1 does what the first does: all launchers pass it on to the ranks
/// and kill nobody.
pub(crate) fn stop_on_signals() -> anyhow::Result<StopSignal> {
    let stop = StopSignal::default();
    let signal = stop.clone();
    ctrlc::set_handler(move || {
        if ASKED.swap(true, Ordering::SeqCst) {
            let _held = hold_checkpoints();
            std::process::exit(i32::from(exit_code::INTERRUPTED));
        }
        signal.stop();
        announce("finishing this step; press Ctrl-C again to stop immediately");
    })
    .context("cannot install the signal handler")?;
    #[cfg(all(feature = "mpi", unix))]
    stop_on_user_signal(stop.clone()).context("cannot install the signal handler")?;
    Ok(stop)
}

#[cfg(all(feature = "mpi", unix))]
fn stop_on_user_signal(stop: StopSignal) -> std::io::Result<()> {
    use signal_hook::consts::SIGUSR1;
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGUSR1])?;
    let wait = move || {
        for _ in signals.forever() {
            stop.stop();
            announce("finishing this step");
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)?;
    Ok(())
}

/// Waits for nothing: standard output may be a pipe that nobody reads.
fn announce(text: &str) {
    if printing::is_silent() {
        return;
    }
    let _ = std::io::stderr().write_all(format!("\n{text}\n").as_bytes());
    printing::copy_if_idle(text);
}
