//! Printing, and the copy of what is printed in the `train.log` of a run.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use console::strip_ansi_codes;
use couplet_data::printable_text;
use couplet_train::TextLog;
use indicatif::ProgressBar;

use crate::json_output;
use crate::terminal::{self, Stream};

static PRINTER: Mutex<Printer> = Mutex::new(Printer {
    is_recording: false,
    early: Vec::new(),
    log: None,
    bar: None,
});

struct Printer {
    /// Whether what is printed before a run begins is kept for its log.
    is_recording: bool,
    early: Vec<String>,
    log: Option<TextLog>,
    /// The bar that is on the screen, which makes room for lines.
    bar: Option<ProgressBar>,
}

/// Whether nothing is printed: another rank of the run prints.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// Prints nothing from now on.
pub(crate) fn silence() {
    IS_SILENT.store(true, Ordering::SeqCst);
}

/// Prints from now on.
pub(crate) fn speak() {
    IS_SILENT.store(false, Ordering::SeqCst);
}

pub(crate) fn is_silent() -> bool {
    IS_SILENT.load(Ordering::SeqCst)
}

/// Keeps what is printed from now on for the log of the run that is about to begin.
pub(crate) fn record() {
    lock().is_recording = true;
}

/// Copies what is printed from now on to a run's log.
pub(crate) fn attach(log: &TextLog) {
    let mut printer = lock();
    for text in std::mem::take(&mut printer.early) {
        let _ = log.write(&text);
    }
    printer.log = Some(log.clone());
}

/// Ends the copying.
pub(crate) fn detach() {
    lock().log = None;
}

/// Sets the bar that makes room for lines, or none.
pub(crate) fn set_bar(bar: Option<&ProgressBar>) {
    lock().bar = bar.cloned();
}

/// Prints a text to standard output, wrapped at words on a terminal.
pub(crate) fn line(text: &str) {
    let columns = terminal::columns(Stream::Output);
    print(text, &terminal::wrap(text, columns), Stream::Output);
}

/// Prints lines to standard output as they are: a table, which fits already.
pub(crate) fn block(text: &str) {
    print(text, text, Stream::Output);
}

/// Prints a text to standard error, wrapped at words on a terminal.
pub(crate) fn note(text: &str) {
    let columns = terminal::columns(Stream::Error);
    print(text, &terminal::wrap(text, columns), Stream::Error);
}

/// Prints a warning to standard error.
pub(crate) fn warn(text: &str) {
    warn_on(text, Stream::Error);
}

/// Prints a warning of a run to standard output, where its steps are printed.
pub(crate) fn warn_in_run(text: &str) {
    warn_on(text, Stream::Output);
}

/// Prints an error to standard error.
pub(crate) fn error(text: &str) {
    headed("error:", &terminal::error(), text, Stream::Error);
}

/// Prints lines to standard error as they are: they fit already.
pub(crate) fn error_block(text: &str) {
    print(text, text, Stream::Error);
}

fn warn_on(text: &str, stream: Stream) {
    headed("warning:", &terminal::warning(stream), text, stream);
}

fn headed(head: &str, styled: &str, text: &str, stream: Stream) {
    let plain = format!("{head} {text}");
    let wrapped = terminal::wrap(&plain, terminal::columns(stream));
    let shown = format!("{styled}{}", &wrapped[head.len()..]);
    print(&plain, &shown, stream);
}

/// - plain: for the log; shown: for the screen.
fn print(plain: &str, shown: &str, stream: Stream) {
    if is_silent() {
        return;
    }
    let mut printer = lock();
    let write = || {
        // Neither may end a run: it must reach its checkpoint although nobody reads what it prints.
        let _ = match stream {
            Stream::Output if json_output::is_alone() => Ok(()),
            Stream::Output => writeln!(io::stdout(), "{shown}"),
            Stream::Error => writeln!(io::stderr(), "{shown}"),
        };
    };
    match &printer.bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
    printer.copy(plain);
}

/// Adds a text to the log that something else has printed. Does nothing if a line is being printed.
pub(crate) fn copy_if_idle(text: &str) {
    if let Ok(mut printer) = PRINTER.try_lock() {
        printer.copy(text);
    }
}

impl Printer {
    fn copy(&mut self, text: &str) {
        let text = strip_ansi_codes(text);
        match &self.log {
            // A full disk is reported where the run needs it.
            Some(log) => _ = log.write(&printable_text(&text)),
            None if self.is_recording => self.early.push(printable_text(&text).into_owned()),
            None => {}
        }
    }
}

fn lock() -> MutexGuard<'static, Printer> {
    PRINTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The warnings of libraries, printed as ours.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Vec<u8>);

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Warnings {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        if !text.trim().is_empty() {
            warn(text.trim());
        }
    }
}
