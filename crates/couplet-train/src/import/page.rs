//! A TOML file in the making, with comments.

use toml::Value;

/// The text of a config, written from the top.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    pub fn comment(&mut self, text: &str) {
        for line in wrapped(text, "# ") {
            self.line(&line);
        }
    }

    pub fn table(&mut self, name: &str) {
        self.line(&format!("\n[{name}]"));
    }

    /// A table of a list.
    pub fn entry(&mut self, name: &str) {
        self.line(&format!("\n[[{name}]]"));
    }

    /// - value: as TOML.
    pub fn key(&mut self, name: &str, value: impl AsRef<str>) {
        self.line(&format!("{name} = {}", value.as_ref()));
    }

    /// A key with a remark on the lines before it.
    pub fn key_with(&mut self, remark: &str, name: &str, value: impl AsRef<str>) {
        self.comment(remark);
        self.key(name, value);
    }

    pub fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

/// A text as TOML.
pub(super) fn text(value: &str) -> String {
    Value::String(value.to_string()).to_string()
}

/// A number as TOML.
pub(super) fn number(value: f64) -> String {
    format!("{value:?}")
}

/// A list of numbers as TOML.
pub(super) fn numbers(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|value| number(*value)).collect();
    format!("[{}]", values.join(", "))
}

/// A list of texts as TOML; one text alone if there is only one.
pub(super) fn texts(values: &[String]) -> String {
    match values {
        [one] => text(one),
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(|value| format!("  {},\n", text(value)))
                .collect();
            format!("[\n{}]", lines.concat())
        }
    }
}

/// A length in epochs.
pub(super) fn epochs(count: u64) -> String {
    match count {
        1 => "1 epoch".into(),
        count => format!("{count} epochs"),
    }
}

/// Lines of at most 100 columns, broken at words.
fn wrapped(text: &str, prefix: &str) -> Vec<String> {
    const COLUMNS: usize = 100;
    let mut lines = Vec::new();
    // What is typed to go on below begins further right.
    let indent = text.len() - text.trim_start().len();
    let mut line = format!("{prefix}{}", &text[..indent]);
    let start = line.len();
    for word in text.split_whitespace() {
        if line.len() > start && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(std::mem::replace(
                &mut line,
                format!("{prefix}{}  ", &text[..indent]),
            ));
        } else if line.len() > start {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line.trim_end().to_string());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml() {
        let mut page = Page::default();
        page.comment(&"word ".repeat(40));
        page.key("a", text("quote \" and \\ $X"));
        page.key("b", numbers(&[1e-6, 1.0, 0.98]));
        page.key_with("why", "c", texts(&["x".into(), "y".into()]));
        page.table("t");
        page.key("d", texts(&["x".into()]));
        let text = page.into_text();
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["a"].as_str(), Some("quote \" and \\ $X"));
        assert_eq!(table["b"][0].as_float(), Some(1e-6));
        assert_eq!(table["c"].as_array().map(Vec::len), Some(2));
        assert_eq!(table["t"]["d"].as_str(), Some("x"));
    }
}
