//! Printing of errors: the error, then its causes after `Caused by:`.

use couplet_data::printable_text;

use crate::{diagnostics, printing};

/// Prints an error with its causes to standard error. Mistakes in a config are drawn with their lines.
pub(crate) fn print(error: &anyhow::Error) {
    let Some((outer, drawn)) = diagnostics::drawn(error) else {
        printing::error(&printable_text(&text(error)));
        return;
    };
    if !outer.is_empty() {
        printing::error(&format!("{}\n", printable_text(&outer.join(": "))));
    }
    printing::error_block(&drawn);
}

fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for (at, cause) in error.chain().skip(1).enumerate() {
        if at == 0 {
            text.push_str("\n\nCaused by:");
        }
        // Parsers' messages have several lines, which show the place in the file.
        for line in cause.to_string().trim_end().lines() {
            text.push_str(&format!("\n  {line}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn causes_follow_the_error_from_the_last_to_the_first() {
        let error = anyhow!("a\n  |\n1 | x\n").context("b").context("c");
        assert_eq!(text(&error), "c\n\nCaused by:\n  b\n  a\n    |\n  1 | x");
        assert_eq!(text(&anyhow!("a alone")), "a alone");
    }
}
