//! Lines of what is printed.

use std::fmt::Display;

pub(super) fn print_line(name: &str, text: impl Display) {
    say!("  {name:12}{text}");
}

/// To three significant digits.
pub(super) fn rounded(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.3}"),
    }
}
