//! `couplet data`.

pub(crate) mod bench;
pub(crate) mod index;
pub(crate) mod pack;
pub(crate) mod survey;

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over samples, on a terminal; of a stream that nobody has counted, a count.
fn bar(samples: Option<usize>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = if samples.is_some() {
        "{bar:24} {pos}/{len} samples  {per_sec}  {eta} left"
    } else {
        "{spinner} {pos} samples  {per_sec}  {elapsed}"
    };
    let style = ProgressStyle::with_template(template).expect("the template is sound");
    let bar = samples.map_or_else(ProgressBar::new_spinner, |len| ProgressBar::new(len as u64));
    bar.with_style(style)
}
