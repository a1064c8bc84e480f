//! `couplet data`.

pub(crate) mod bench;
pub(crate) mod index;
pub(crate) mod pack;
pub(crate) mod survey;

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal; of what nobody has counted, a count.
/// - unit: what is counted, such as `samples`.
fn bar(count: Option<usize>, unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match count {
        Some(_) => format!("{{bar:24}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left"),
        None => format!("{{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed}}"),
    };
    let style = ProgressStyle::with_template(&template).expect("the template is sound");
    let bar = count.map_or_else(ProgressBar::new_spinner, |len| ProgressBar::new(len as u64));
    bar.with_style(style)
}
