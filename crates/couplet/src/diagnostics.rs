//! Mistakes in config, dataset and sweep files, drawn with the lines that they are in.

use std::borrow::Cow;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use console::measure_text_width;
use couplet_data::{printable_path, printable_text};
use couplet_train::config::Place;
use couplet_train::config::dataset_mistakes;
use couplet_train::{ConfigError, ConfigIssue};

use crate::terminal::{self, Stream};

const HELP: &str = "help: ";

/// The mistakes among an error's causes, drawn, after the messages that come before them.
pub(crate) fn drawn(error: &anyhow::Error) -> Option<(Vec<String>, String)> {
    let mut outer = Vec::new();
    for cause in error.chain() {
        let boxed = || Some(&**cause.downcast_ref::<Box<ConfigError>>()?);
        if let Some(error) = cause.downcast_ref().or_else(boxed) {
            return draw(error).map(|drawn| (outer, drawn));
        }
        let dataset = cause.downcast_ref().and_then(dataset_mistakes);
        if let Some(drawn) = dataset.as_ref().and_then(draw) {
            return Some((outer, drawn));
        }
        outer.push(cause.to_string());
    }
    None
}

/// Every mistake with its line, then their number, for standard error.
/// - returns `None` for an error that has no mistakes.
fn draw(error: &ConfigError) -> Option<String> {
    let ConfigError::Problems { path, problems } = error else {
        return None;
    };
    let columns = terminal::columns(Stream::Error);
    let pen = Pen {
        renderer: if console::colors_enabled_stderr() {
            Renderer::styled()
        } else {
            Renderer::plain()
        },
        columns,
    };
    let mut text = String::new();
    let mut before: Option<&Place> = None;
    for problem in problems {
        let place = problem.place.as_ref();
        // Many keys may be missing in one table: its line is shown once.
        let is_shown = before.is_some() && before == place;
        text.push_str(&pen.draw(problem, place.filter(|_| !is_shown)));
        text.push_str("\n\n");
        before = place;
    }
    if problems.len() > 1 {
        let summary = ConfigError::summary(path, problems);
        let title = Level::ERROR.primary_title(printable_text(&summary).into_owned());
        text.push_str(&pen.renderer.render(&[Group::with_title(title)]));
    }
    Some(text.trim_end().to_string())
}

struct Pen {
    renderer: Renderer,
    columns: Option<usize>,
}

impl Pen {
    /// - place: what to show of the file or the argument.
    fn draw(&self, problem: &ConfigIssue, place: Option<&Place>) -> String {
        let width = self.columns.unwrap_or(terminal::DEFAULT_COLUMNS);
        let message = match problem.key.as_str() {
            "" => problem.message.clone(),
            key => format!("{key}: {}", problem.message),
        };
        let title = self.wrapped(&message, "error: ".len());
        let mut group = Group::with_title(Level::ERROR.primary_title(title));
        let help = problem.help.as_deref().map(printable_text);
        let Some(place) = place else {
            if let Some(help) = help {
                let help = self.wrapped(&help, " = help: ".len());
                group = group.element(Level::HELP.message(help));
            }
            return self.renderer.clone().term_width(width).render(&[group]);
        };
        let start = place.span.start.min(place.text.len());
        let line_start = place.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = place.text[line_start..].lines().next().unwrap_or_default();
        let number = match place.file {
            Some(_) => place.line().to_string().len(),
            None => 0,
        };
        let gutter = number + " | ".len();
        let shown_to = |end: usize| {
            let part = place.text.get(line_start..end.min(line_start + line.len()));
            gutter + measure_text_width(&part.unwrap_or(line).replace('\t', "    "))
        };
        let end = shown_to(place.span.end).max(shown_to(start) + 1);
        let fits = |help: &str| end + 1 + HELP.len() + measure_text_width(help) <= width;
        let mut annotation = AnnotationKind::Primary.span(start..place.span.end.max(start));
        let is_inline = help.as_deref().is_some_and(fits);
        if is_inline {
            annotation = annotation.label(help.as_deref().map(|help| format!("{HELP}{help}")));
        }
        let mut snippet = Snippet::source(Cow::from(&*place.text)).annotation(annotation);
        snippet = match &place.file {
            Some(file) => snippet.path(printable_path(file)),
            None => snippet.line_numbering(false),
        };
        group = group.element(snippet);
        if let Some(help) = help
            && !is_inline
        {
            let help = self.wrapped(&help, number + " = help: ".len() + 1);
            group = group.element(Level::HELP.message(help));
        }
        self.renderer.clone().term_width(width).render(&[group])
    }

    /// - indent: columns before each line.
    fn wrapped(&self, text: &str, indent: usize) -> String {
        let text = printable_text(text);
        let Some(columns) = self.columns else {
            return text.into_owned();
        };
        let room = columns.saturating_sub(indent).max(20);
        let lines = text.lines().map(|line| wrap(line, room));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Breaks a line at words; a word that is longer has a line of its own.
fn wrap(text: &str, room: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        let width = measure_text_width(line) + 1 + measure_text_width(word);
        if line.is_empty() {
            line.push_str(word);
        } else if width <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use couplet_train::config::IssueKind;

    use super::*;

    fn drawn(text: &str, part: &str, help: &str, columns: usize) -> String {
        let start = text.find(part).unwrap();
        let pen = Pen {
            renderer: Renderer::plain(),
            columns: Some(columns),
        };
        let problem = ConfigIssue {
            key: "optimizer.lr".into(),
            message: "expected a number".into(),
            help: Some(help.into()),
            kind: IssueKind::Value,
            place: Some(Place {
                file: Some(Arc::new("mine.toml".into())),
                text: text.into(),
                span: start..start + part.len(),
            }),
        };
        pen.draw(&problem, problem.place.as_ref())
    }

    #[test]
    fn the_caret_is_under_the_value_and_the_help_next_to_it() {
        let text = "name = 'é'\r\n\tlr = \"fäst\" # x\r\n";
        assert_eq!(
            drawn(text, "\"fäst\"", "write 1e-3", 80),
            "error: optimizer.lr: expected a number
 --> mine.toml:2:7
  |
2 |     lr = \"fäst\" # x
  |          ^^^^^^ help: write 1e-3"
        );
    }

    #[test]
    fn a_help_that_does_not_fit_is_wrapped_below() {
        let help = "one of many words that take more than one line of a narrow terminal";
        let text = drawn("lr = 'x'", "'x'", help, 44);
        assert!(
            text.contains("\n  = help: one of many words that take more\n          than"),
            "{text}"
        );
        for line in text.lines() {
            assert!(measure_text_width(line) <= 44, "{line}");
        }
    }

    #[test]
    fn nothing_of_a_file_reaches_a_terminal_as_a_command() {
        let text = drawn("lr = '\u{1b}[2J'", "'\u{1b}[2J'", "a\u{1b}[2J", 80);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
