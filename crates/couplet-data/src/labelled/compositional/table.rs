//! Tables of texts that name image files: CSV, TSV and JSON.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::columns::Columns;
use super::options::{CompositionalKind, CompositionalOptions};
use crate::formats::DataError;
use crate::formats::csv::CsvColumns;
use crate::formats::files::{MAX_DOCUMENT_BYTES, read_regular};
use crate::formats::image_files::ImagePaths;
use crate::formats::json;
use crate::formats::table_layout::TableLayout;
use crate::labelled::detect::has_end;

/// The rows of a table.
pub(super) struct Table {
    pub kind: CompositionalKind,
    pub rows: Vec<Row>,
}

pub(super) struct Row {
    /// Of SugarCrepe, twice the same.
    pub images: [PathBuf; 2],
    pub captions: [String; 2],
    pub category: Option<String>,
}

impl Table {
    pub fn read(path: &Path, options: &CompositionalOptions) -> Result<Self, DataError> {
        if has_end(path, &["json", "jsonl"]) {
            of_json(path, options)
        } else {
            of_csv(path, options)
        }
    }
}

fn of_csv(path: &Path, options: &CompositionalOptions) -> Result<Table, DataError> {
    let layout = TableLayout::of(path)?;
    let separator = options.separator.or(layout.separator);
    let names = match options.separator {
        // The layout may be that of another one.
        Some(separator) => crate::formats::csv::first_rows(path, separator, 0)?.0,
        None => layout.names,
    };
    let columns = Columns::choose(&names, options);
    let columns = columns.map_err(|message| DataError::invalid(path, message))?;
    let rows = |image: &str, value: &str, key: &str| {
        let columns = CsvColumns {
            image,
            value: (value, key),
            separator,
            root: options.root.as_deref(),
        };
        columns.rows(path)
    };
    let read = |image: &str, value: &str, key: &str| -> Result<Vec<(PathBuf, String)>, DataError> {
        let rows = rows(image, value, key)?.into_iter().map(|row| {
            let line = row.line;
            if row.is_short {
                let message = format!("line {line}: fewer cells than the header has");
                return Err(DataError::invalid(path, message));
            }
            row.cells
                .map_err(|error| DataError::invalid(path, format!("line {line}: {}", error.detail)))
        });
        rows.collect()
    };
    let [caption, other] = &columns.captions;
    let first = &columns.images[0];
    let second = columns.images.last().unwrap_or(first);
    let captions = read(first, caption, "--caption-columns")?;
    let others = read(second, other, "--caption-columns")?;
    let categories: Vec<Option<String>> = match &columns.category {
        // One that was not asked for may have nothing to say.
        Some(category) if options.category_column.is_none() => {
            let rows = rows(first, category, "--category-column")?.into_iter();
            rows.map(|row| row.cells.ok().map(|(_, category)| category))
                .collect()
        }
        Some(category) => {
            let cells = read(first, category, "--category-column")?.into_iter();
            cells.map(|(_, category)| Some(category)).collect()
        }
        None => vec![None; captions.len()],
    };
    let pairs = captions.into_iter().zip(others).zip(categories);
    let rows = pairs.map(|(((image, caption), (second, other)), category)| Row {
        images: [image, second],
        captions: [caption, other],
        category,
    });
    Ok(Table {
        kind: columns.kind,
        rows: rows.collect(),
    })
}

fn of_json(path: &Path, options: &CompositionalOptions) -> Result<Table, DataError> {
    let invalid = |message: String| DataError::invalid(path, message);
    let bytes = read_regular(path, MAX_DOCUMENT_BYTES).map_err(DataError::io(path))?;
    let records = if has_end(path, &["jsonl"]) {
        lines(&bytes)
    } else {
        document(&bytes)
    };
    let records = records.map_err(invalid)?;
    let Some((_, first)) = records.first() else {
        return Err(invalid("the table has no rows".into()));
    };
    let names: Vec<String> = first.keys().cloned().collect();
    let columns = Columns::choose(&names, options).map_err(invalid)?;
    let paths = ImagePaths::new(options.root.as_deref(), path);
    let rows = records
        .iter()
        .map(|(place, record)| -> Result<Row, DataError> {
            let text = |column: &String| -> Result<String, DataError> {
                let found = match record.get(column) {
                    Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
                    Some(Value::Number(number)) => Some(number.to_string()),
                    _ => None,
                };
                found.ok_or_else(|| invalid(format!("{place}: no text at `{column}`")))
            };
            let image = |column: &String| -> Result<PathBuf, DataError> {
                Ok(paths.resolve(&text(column)?))
            };
            let first = &columns.images[0];
            Ok(Row {
                images: [
                    image(first)?,
                    image(columns.images.last().unwrap_or(first))?,
                ],
                captions: [text(&columns.captions[0])?, text(&columns.captions[1])?],
                category: match &columns.category {
                    // A column that was not asked for may have nothing to say.
                    Some(column) if options.category_column.is_none() => text(column).ok(),
                    column => column.as_ref().map(text).transpose()?,
                },
            })
        });
    Ok(Table {
        kind: columns.kind,
        rows: rows.collect::<Result<_, DataError>>()?,
    })
}

/// An object, with its place in the file.
type Record = (String, Map<String, Value>);

/// One object per line.
fn lines(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let records = lines.map(|(at, line)| {
        let place = format!("line {}", at + 1);
        let record: Map<String, Value> =
            json::parse(line).map_err(|message| format!("{place}: {message}"))?;
        Ok((place, record))
    });
    records.collect()
}

/// A list of objects, or SugarCrepe's object of objects by number.
fn document(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let entries: Vec<(String, Value)> = match json::parse(bytes)? {
        Value::Array(values) => {
            let values = values.into_iter().enumerate();
            values
                .map(|(at, value)| (format!("entry {at}"), value))
                .collect()
        }
        Value::Object(values) => {
            let values = values.into_iter();
            values
                .map(|(key, value)| (format!("entry `{key}`"), value))
                .collect()
        }
        _ => return Err("expected a list of objects or an object of objects".into()),
    };
    let records = entries.into_iter().map(|(place, value)| match value {
        Value::Object(record) => Ok((place, record)),
        _ => Err(format!(
            "{place} is not an object; expected a list of objects or an object of objects"
        )),
    });
    records.collect()
}
