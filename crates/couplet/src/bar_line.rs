//! The line of a progress bar, which fits the terminal.

use console::measure_text_width;

/// Columns of the bar itself.
const BAR: std::ops::RangeInclusive<usize> = 8..=24;
const GAP: &str = "  ";

/// A bar and what is said of it, in at most `columns - 1` columns: parts are left out, the least important
/// first, until the line fits. Only the most important part may be cut.
/// - parts: the importance of each, and its text.
pub(crate) fn bar_line(done: u64, of: u64, parts: &[(u8, String)], columns: usize) -> String {
    // A terminal may begin another line after its last column.
    let room = columns.saturating_sub(1);
    let mut parts: Vec<&(u8, String)> = parts.iter().collect();
    let width = |parts: &[&(u8, String)]| -> usize {
        let widths = parts.iter();
        widths
            .map(|(_, text)| GAP.len() + measure_text_width(text))
            .sum()
    };
    while parts.len() > 1 && width(&parts) + BAR.start() > room {
        let least = parts.iter().map(|(importance, _)| *importance).min();
        parts.retain(|(importance, _)| Some(*importance) != least);
    }
    let own = room.saturating_sub(width(&parts)).min(*BAR.end());
    let mut line = if own < *BAR.start() {
        String::new()
    } else {
        bar(done, of, own) + GAP
    };
    let texts: Vec<&str> = parts.iter().map(|(_, text)| &text[..]).collect();
    line.push_str(&texts.join(GAP));
    console::truncate_str(&line, room, "…").into_owned()
}

fn bar(done: u64, of: u64, width: usize) -> String {
    let filled = u128::from(done.min(of)) * width as u128 / u128::from(of.max(1));
    let filled = usize::try_from(filled).unwrap_or(width);
    "█".repeat(filled) + &"░".repeat(width - filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fits_every_width_and_keeps_what_matters_most() {
        let parts = [
            (9, "step 123456/1000000".to_string()),
            (5, "epoch 12/300".to_string()),
            (8, "loss 12.3456".to_string()),
            (6, "12345 samples/s".to_string()),
            (7, "12.3 h left".to_string()),
        ];
        for columns in 20..140 {
            let line = bar_line(123_456, 1_000_000, &parts, columns);
            assert!(measure_text_width(&line) < columns, "{columns}: {line}");
            assert!(columns < 22 || line.contains(&parts[0].1), "{line}");
        }
        let line = bar_line(500_000, 1_000_000, &parts, 80);
        assert!(line.contains("loss") && line.contains("left"), "{line}");
        let wide = bar_line(500_000, 1_000_000, &parts, 140);
        assert!(wide.starts_with("████████████░░░░░░░░░░░░  step"), "{wide}");
        assert_eq!(bar(5, 0, 4), "░░░░");
    }
}
