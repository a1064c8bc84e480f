//! `couplet data`.

pub(crate) mod bench;
pub(crate) mod index;
pub(crate) mod pack;
pub(crate) mod survey;

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over samples, on a terminal.
fn bar(samples: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} samples  {per_sec}  {eta} left")
        .expect("the template is sound");
    ProgressBar::new(samples as u64).with_style(style)
}
