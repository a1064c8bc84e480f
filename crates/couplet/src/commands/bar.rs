//! Progress over the samples of a dataset.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on a terminal, or a spinner where the length is unknown.
/// - unit: what is counted, such as `samples`.
pub(crate) fn bar(count: Option<usize>, unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match count {
        Some(_) => format!("{{bar:24}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left"),
        None => format!("{{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed}}"),
    };
    let style = ProgressStyle::with_template(&template).expect("the template is valid");
    let bar = count.map_or_else(ProgressBar::new_spinner, |len| ProgressBar::new(len as u64));
    bar.with_style(style)
}

/// A sign on a terminal that a command works, and for how long, where nobody knows how much is left.
/// - what: `measuring`.
pub(crate) fn working(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("the template is valid"));
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
