//! Tables that fit the terminal.

use console::{measure_text_width, pad_str};

/// Columns between two columns of a table.
const GAP: usize = 2;
const INDENT: &str = "  ";

/// A table with a name for each row, at the left, and values at the right of their columns. If the columns
/// do not fit, the table is continued below with the names again, so that no line is cut or broken.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// - head: of the names, then of each column.
    pub fn new(head: Vec<String>) -> Self {
        let rows = Vec::new();
        Self { head, rows }
    }

    /// Adds a row: the name, then a value for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    /// The lines of the table, none of them longer than `columns` if the longest value allows it.
    pub fn render(&self, columns: usize) -> String {
        let widths: Vec<usize> = (0..self.head.len()).map(|at| self.width(at)).collect();
        let most = widths[1..].iter().copied().max().unwrap_or(0);
        // A long name has a line of its own.
        let is_stacked = INDENT.len() + widths[0] + GAP + most > columns;
        let name = if is_stacked { INDENT.len() } else { widths[0] };
        let room = columns.saturating_sub(INDENT.len() + name);
        let parts = split(&widths[1..], room);
        let mut lines = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                lines.push(String::new());
            }
            for row in std::iter::once(&self.head).chain(&self.rows) {
                let mut line = INDENT.to_string();
                if is_stacked {
                    lines.push(format!("{INDENT}{}", row[0]));
                    line.push_str(INDENT);
                } else {
                    line.push_str(&pad_str(&row[0], name, console::Alignment::Left, None));
                }
                for column in part.clone() {
                    let cell = &row[column + 1];
                    let width = widths[column + 1];
                    line.push_str(&" ".repeat(GAP));
                    line.push_str(&pad_str(cell, width, console::Alignment::Right, None));
                }
                lines.push(line.trim_end().to_string());
            }
        }
        lines.join("\n")
    }

    fn width(&self, column: usize) -> usize {
        let cells = std::iter::once(&self.head).chain(&self.rows);
        let widths = cells.map(|row| measure_text_width(&row[column]));
        widths.max().unwrap_or(0)
    }
}

/// Divides columns into as few parts as fit, each with at least one.
fn split(widths: &[usize], room: usize) -> Vec<std::ops::Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (at, width) in widths.iter().enumerate() {
        if at > start && used + GAP + width > room {
            parts.push(start..at);
            (start, used) = (at, 0);
        }
        used += GAP + width;
    }
    parts.push(start..widths.len());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let words = |text: &str| text.split('|').map(String::from).collect::<Vec<_>>();
        let mut table = Table::new(words("zero-shot|images|top1|mean per class"));
        table.row(words("shapes|600|100.00%|99.10%"));
        table.row(words("数字|40|9.50%|8.00%"));
        table
    }

    #[test]
    fn columns_are_aligned_at_one_hundred_percent_and_by_width_on_screen() {
        let wanted = "  zero-shot  images     top1  mean per class
  shapes        600  100.00%          99.10%
  数字           40    9.50%           8.00%";
        assert_eq!(table().render(80), wanted);
    }

    #[test]
    fn a_table_that_is_too_wide_is_continued_below() {
        let wanted = "  zero-shot  images     top1
  shapes        600  100.00%
  数字           40    9.50%

  zero-shot  mean per class
  shapes             99.10%
  数字                8.00%";
        assert_eq!(table().render(40), wanted);
        let mut table = table();
        table.row(vec![
            "a name that is very long".into(),
            "1".into(),
            "2".into(),
            "3".into(),
        ]);
        for columns in 30..90 {
            let text = table.render(columns);
            for line in text.lines() {
                assert!(measure_text_width(line) <= columns, "{columns}: {line}");
            }
            for cell in [
                "100.00%",
                "99.10%",
                "a name that is very long",
                "mean per class",
            ] {
                assert!(text.contains(cell), "{columns}: {text}");
            }
        }
    }
}
