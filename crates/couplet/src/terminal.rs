//! What is known of the terminal: its width, and whether it shows colors.

use std::io::IsTerminal;

use console::{Term, measure_text_width, style};

/// Columns of tables that are not for a terminal.
pub(crate) const DEFAULT_COLUMNS: usize = 80;
/// Narrower terminals are written to as if they had this width.
const LEAST_COLUMNS: usize = 40;
/// A label, behind which lines go on, is at most this wide.
const LABEL_COLUMNS: usize = 24;

/// Where something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// The columns that texts are wrapped to: the terminal's, or else those that `COLUMNS` says. `None` in a
/// pipe, where one message is one line.
pub(crate) fn columns(stream: Stream) -> Option<usize> {
    let of_terminal = match stream {
        Stream::Output => {
            let out = std::io::stdout();
            out.is_terminal().then(|| columns_of(&out, &Term::stdout()))
        }
        Stream::Error => {
            let err = std::io::stderr();
            err.is_terminal().then(|| columns_of(&err, &Term::stderr()))
        }
    };
    let named = || std::env::var("COLUMNS").ok()?.parse().ok();
    of_terminal
        .or_else(named)
        .map(|columns: usize| columns.max(LEAST_COLUMNS))
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

/// The columns that tables on standard output fit in.
pub(crate) fn table_columns() -> usize {
    columns(Stream::Output).unwrap_or(DEFAULT_COLUMNS)
}

/// The columns that a progress bar fits in.
pub(crate) fn bar_columns() -> usize {
    columns(Stream::Error).unwrap_or(DEFAULT_COLUMNS)
}

/// Whether progress bars are shown: they are drawn on standard error.
pub(crate) fn shows_bars() -> bool {
    std::io::stderr().is_terminal()
}

/// The word `warning`, in color where that is shown.
pub(crate) fn warning(stream: Stream) -> String {
    styled("warning:", stream, |text| text.yellow().bold())
}

/// The word `error`, for standard error.
pub(crate) fn error() -> String {
    styled("error:", Stream::Error, |text| text.red().bold())
}

fn styled<'a>(
    text: &'a str,
    stream: Stream,
    paint: impl Fn(console::StyledObject<&'a str>) -> console::StyledObject<&'a str>,
) -> String {
    let text = paint(style(text));
    let text = match stream {
        Stream::Output => text,
        Stream::Error => text.for_stderr(),
    };
    text.to_string()
}

/// Wraps a command before its options, so that it can be copied.
pub(crate) fn wrap_command(command: &str, columns: usize) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for (at, part) in command.split(" --").enumerate() {
        let part = if at == 0 {
            part.to_string()
        } else {
            format!("--{part}")
        };
        let own = measure_text_width(&part);
        // The backslash has to fit too.
        if at > 0 && width + own + 3 > columns {
            text.push_str(" \\\n  ");
            width = 2;
        } else if at > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(&part);
        width += own;
    }
    text
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
    for word in split_words(words, columns - indent) {
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

/// Words between spaces. What is in backquotes is one word, if it fits in a line: it is a key or a command.
fn split_words(text: &str, room: usize) -> Vec<&str> {
    let (mut words, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, letter) in text.char_indices() {
        match letter {
            '`' => quote = if quote.is_some() { None } else { Some(at) },
            ' ' if quote.is_none_or(|from| !is_short_quote(&text[from..], room)) => {
                words.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&text[start..]);
    words
}

/// - text: begins with a backquote.
fn is_short_quote(text: &str, room: usize) -> bool {
    let end = text[1..].find('`');
    end.is_some_and(|end| measure_text_width(&text[..end + 2]) < room)
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
        let quoted = "help; `checkpoint.best = \"x\"` keeps, and ` a b";
        assert_eq!(
            wrap(quoted, Some(28)),
            "help;\n  `checkpoint.best = \"x\"`\n  keeps, and ` a b"
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

    #[test]
    fn commands_are_wrapped_before_options() {
        let command = "couplet embed --model runs/tiny --images FOLDER --out images.npy";
        assert_eq!(wrap_command(command, 80), command);
        assert_eq!(
            wrap_command(command, 52),
            "couplet embed --model runs/tiny --images FOLDER \\\n  --out images.npy"
        );
        for columns in 30..80 {
            for line in wrap_command(command, columns).lines() {
                assert!(line.len() <= columns, "{columns}: {line}");
            }
        }
    }
}
