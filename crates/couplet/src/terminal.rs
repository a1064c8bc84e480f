//! What is known of the terminal: its width, and whether it shows colors.

use std::io::IsTerminal;

use console::{Term, measure_text_width, style};

/// Columns of tables that are not for a terminal.
const DEFAULT_COLUMNS: usize = 80;
/// Narrower terminals are written to as if they had this width.
const LEAST_COLUMNS: usize = 40;
/// A label, behind which lines go on, is at most this wide.
const LABEL_COLUMNS: usize = 24;

/// The columns that texts are wrapped to: the terminal's, or else those that `COLUMNS` says. `None` in a
/// pipe, where one message is one line.
pub(crate) fn columns() -> Option<usize> {
    let named = || std::env::var("COLUMNS").ok()?.parse().ok();
    let found = if std::io::stdout().is_terminal() {
        Some(columns_of(&std::io::stdout(), &Term::stdout()))
    } else if std::io::stderr().is_terminal() {
        Some(columns_of(&std::io::stderr(), &Term::stderr()))
    } else {
        None
    };
    found
        .or_else(named)
        .map(|columns| columns.max(LEAST_COLUMNS))
}

/// The columns of a terminal; of one that does not say, the usual number.
#[cfg(unix)]
fn columns_of(file: &impl std::os::fd::AsFd, _term: &Term) -> usize {
    // Crates for this give nothing where only the rows are unknown, as after `stty cols 80`.
    match rustix::termios::tcgetwinsize(file).map_or(0, |size| size.ws_col) {
        0 => DEFAULT_COLUMNS,
        columns => columns.into(),
    }
}

#[cfg(not(unix))]
fn columns_of<File>(_file: &File, term: &Term) -> usize {
    let size = term.size_checked();
    size.map_or(DEFAULT_COLUMNS, |(_, columns)| usize::from(columns))
}

/// The columns that tables fit in.
pub(crate) fn table_columns() -> usize {
    columns().unwrap_or(DEFAULT_COLUMNS)
}

/// Whether progress bars are shown: they are drawn on standard error.
pub(crate) fn shows_bars() -> bool {
    std::io::stderr().is_terminal()
}

/// The word `warning`, in color where standard output or standard error shows it.
/// - is_stderr: where it is printed.
pub(crate) fn warning(is_stderr: bool) -> String {
    styled("warning:", is_stderr, |text| text.yellow().bold())
}

/// The word `error`, for standard error.
pub(crate) fn error() -> String {
    styled("error:", true, |text| text.red().bold())
}

fn styled<'a>(
    text: &'a str,
    is_stderr: bool,
    paint: impl Fn(console::StyledObject<&'a str>) -> console::StyledObject<&'a str>,
) -> String {
    let text = paint(style(text));
    let text = if is_stderr { text.for_stderr() } else { text };
    text.to_string()
}

/// Wraps a text at words. Lines after the first are indented: behind a label (`best       …`) to its text,
/// else by two columns more than the line. A word that is longer than a line is not broken.
pub(crate) fn wrap(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else {
        return text.to_string();
    };
    let lines = text.split('\n');
    let lines: Vec<String> = lines.map(|line| wrap_line(line, columns)).collect();
    lines.join("\n")
}

fn wrap_line(line: &str, columns: usize) -> String {
    if measure_text_width(line) <= columns {
        return line.to_string();
    }
    let start = line.len() - line.trim_start().len();
    let (mut text, words, indent) = match label_len(line, start) {
        Some(end) => (
            line[..end].to_string(),
            &line[end..],
            measure_text_width(&line[..end]),
        ),
        None => (line[..start].to_string(), &line[start..], start + 2),
    };
    let mut width = measure_text_width(&text);
    let mut is_first = true;
    for word in words.split(' ') {
        let own = measure_text_width(word);
        if !is_first && width + 1 + own > columns {
            text = text.trim_end().to_string() + "\n" + &" ".repeat(indent);
            width = indent;
        } else if !is_first {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += own;
        is_first = false;
    }
    text
}

/// The length of a label and the spaces behind it: at least two of them, and a text from one of the first
/// columns on.
fn label_len(line: &str, start: usize) -> Option<usize> {
    let gap = start + line[start..].find("  ")?;
    let text = line[gap..].find(|c: char| c != ' ')?;
    let is_near = measure_text_width(&line[..gap + text]) <= LABEL_COLUMNS;
    is_near.then_some(gap + text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wrapped_at_words_with_an_indent() {
        let text = "warning: one two three four five six seven eight nine ten";
        let wrapped = wrap(text, Some(24));
        assert_eq!(
            wrapped,
            "warning: one two three\n  four five six seven\n  eight nine ten"
        );
        assert_eq!(wrap(text, None), text);
        let labelled = "best       eval/shapes/top1 = 99.00% at step 920";
        assert_eq!(
            wrap(labelled, Some(40)),
            "best       eval/shapes/top1 = 99.00% at\n           step 920"
        );
        let long = "see runs/a-name-that-is-longer-than-the-line/skipped.jsonl for all";
        assert_eq!(
            wrap(long, Some(20)),
            "see\n  runs/a-name-that-is-longer-than-the-line/skipped.jsonl\n  for all"
        );
        // Wide characters take two columns each.
        assert_eq!(wrap("犬 犬 犬 犬", Some(5)), "犬 犬\n  犬\n  犬");
        assert_eq!(wrap("  a b\n\nc\n", Some(40)), "  a b\n\nc\n");
        let row = "  parameters  one two three four five six";
        assert_eq!(
            wrap(row, Some(30)),
            "  parameters  one two three\n              four five six"
        );
    }

    #[test]
    fn no_line_is_longer_than_the_width_where_words_allow_it() {
        let text = "the device waits for data 40% of the time; decoding takes 93% of the loader's time. \
                    Try more `data.threads`, smaller images on disk or faster storage";
        for columns in 40..100 {
            let wrapped = wrap(text, Some(columns));
            for line in wrapped.lines() {
                assert!(measure_text_width(line) <= columns, "{columns}: {line}");
            }
            let words = |text: &str| {
                text.split_whitespace()
                    .map(String::from)
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(&wrapped), words(text));
        }
    }
}
