//! Tables that name image files, with a label or captions for each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    ColumnKind, Files, LabelledDataset, LabelledError, Split, Targets, label_or_caption, part_of,
};
use crate::csv_table::CsvFile;

/// `source = "csv"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledCsvConfig {
    pub path: PathBuf,
    /// The same of images that a probe is fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_path: Option<PathBuf>,
    #[serde(default = "default_image_column")]
    pub image_column: String,
    /// Numbers of classes from 0 on, or their names: then classes stand in the order of
    /// their names, or of the dataset's `class_names`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Captions; rows of one image give it several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_column: Option<String>,
    /// One character. By default a tab for `.tsv` files and a comma for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<char>,
    /// The folder that relative image paths start from; by default the table's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

fn default_image_column() -> String {
    "filepath".into()
}

impl LabelledCsvConfig {
    pub(super) fn open(&self, part: Split) -> Result<LabelledDataset, LabelledError> {
        let key = (self.path.as_path(), "train_path");
        let path = part_of(part, &self.path, self.train_path.as_ref(), key)?;
        let malformed = |message: String| LabelledError::malformed(path, message);
        let column = label_or_caption(self.label_column.as_ref(), self.caption_column.as_ref());
        let (column, kind) = column.map_err(malformed)?;
        let rows = self.rows(path, column)?;
        if rows.is_empty() {
            return Err(malformed("the table has no rows".into()));
        }
        let root = self
            .root
            .as_deref()
            .or(path.parent())
            .unwrap_or(Path::new(""));
        let (files, targets, class_names) = if kind == ColumnKind::Caption {
            let (files, captions) = group(rows);
            (files, Targets::Captions(captions), None)
        } else {
            let (files, labels): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let (labels, names) = class_numbers(&labels);
            (files, Targets::Classes(labels), names)
        };
        Ok(LabelledDataset {
            path: path.clone(),
            class_names,
            templates: None,
            images: Box::new(Files(files.iter().map(|file| root.join(file)).collect())),
            targets,
        })
    }

    /// The image and the other column of each row.
    fn rows(&self, path: &Path, column: &str) -> Result<Vec<(String, String)>, LabelledError> {
        let failed = |error: csv::Error| LabelledError::malformed(path, error);
        let mut table = CsvFile::open(path, self.separator, false).map_err(failed)?;
        let find = |wanted: &str, key: &str| {
            let place = table.column(wanted, key);
            place.map_err(|message| LabelledError::malformed(path, message))
        };
        let image = find(&self.image_column, "image_column")?;
        let other = find(column, "label_column or caption_column")?;
        let cells = |record: Result<csv::StringRecord, csv::Error>| {
            let record = record.map_err(failed)?;
            let cell = |at: usize| record.get(at).unwrap_or_default().trim().to_string();
            let cells = (cell(image), cell(other));
            if cells.0.is_empty() || cells.1.is_empty() {
                let line = record.position().map_or(0, csv::Position::line);
                let message = format!("line {line} has an empty cell");
                return Err(LabelledError::malformed(path, message));
            }
            Ok(cells)
        };
        table.reader.records().map(cells).collect()
    }
}

/// Images in the order in which they first stand, with all captions of each.
pub(super) fn group(rows: Vec<(String, String)>) -> (Vec<String>, Vec<Vec<String>>) {
    let mut places = HashMap::new();
    let (mut files, mut captions) = (Vec::new(), Vec::<Vec<String>>::new());
    for (file, caption) in rows {
        let at = *places.entry(file.clone()).or_insert_with(|| {
            files.push(file);
            captions.push(Vec::new());
            captions.len() - 1
        });
        captions[at].push(caption);
    }
    (files, captions)
}

/// Numbers as they are; names by the order of all that occur.
pub(super) fn class_numbers(labels: &[String]) -> (Vec<usize>, Option<Vec<String>>) {
    let numbers: Option<Vec<usize>> = labels.iter().map(|label| label.parse().ok()).collect();
    if let Some(numbers) = numbers {
        return (numbers, None);
    }
    let mut names = labels.to_vec();
    names.sort();
    names.dedup();
    let number = |label: &String| names.binary_search(label).expect("every label is a name");
    (labels.iter().map(number).collect(), Some(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(
        text: &str,
        change: impl Fn(&mut LabelledCsvConfig),
    ) -> Result<LabelledDataset, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let mut table = LabelledCsvConfig {
            path,
            train_path: None,
            image_column: default_image_column(),
            label_column: None,
            caption_column: None,
            separator: None,
            root: None,
        };
        change(&mut table);
        table.open(Split::Test).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_of_one_image_are_its_captions() {
        let text = "filepath,title\na.jpg,one\nb.jpg,\"two, \"\"2\"\"\"\na.jpg,three\n";
        let set = open(text, |table| table.caption_column = Some("title".into())).unwrap();
        let captions = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let wanted = vec![captions(&["one", "three"]), captions(&["two, \"2\""])];
        assert_eq!(*set.targets(), Targets::Captions(wanted));
        assert!(set.images.locate(1).0.ends_with("b.jpg"));
    }

    #[test]
    fn labels_are_numbers_or_names() {
        let label = |table: &mut LabelledCsvConfig| table.label_column = Some("l".into());
        let set = open("filepath,l\na,2\nb,0\n", label).unwrap();
        assert_eq!(*set.targets(), Targets::Classes(vec![2, 0]));
        let set = open("l,filepath\nowl,a\ncat,b\n", label).unwrap();
        assert_eq!(*set.targets(), Targets::Classes(vec![1, 0]));
        assert_eq!(set.class_names().unwrap(), ["cat", "owl"]);
        let error = open("filepath,l\na,\n", label).unwrap_err();
        assert!(error.contains("line 2 has an empty cell"), "{error}");
        let error = open("filepath,l\na,1\n", |_| {}).unwrap_err();
        assert!(
            error.contains("either label_column or caption_column"),
            "{error}"
        );
        let error = open("filepath,x\na,1\n", label).unwrap_err();
        assert!(
            error.contains("no column `l` among `filepath`, `x`"),
            "{error}"
        );
    }
}
