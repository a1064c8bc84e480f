//! Tables that name image files, with a label or captions for each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{
    ColumnKind, Files, LabelledDataset, Split, Targets, class_numbers, label_or_caption, split_path,
};
use crate::formats::DataError;
use crate::formats::csv::CsvColumns;

/// `source = "csv"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledCsvConfig {
    /// The table of the test images.
    pub path: PathBuf,
    /// The table of the training images, for probes and `[classify]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_path: Option<PathBuf>,
    /// Column of image paths.
    #[serde(default = "default_image_column")]
    pub image_column: String,
    /// Column of class numbers, counted from 0, or of class names, which are sorted alphabetically;
    /// `class_names` may list the same names in another order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Column of captions; an image has the captions of all its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_column: Option<String>,
    /// The separator, one ASCII character. By default a tab for `.tsv` files and a comma for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<char>,
    /// Folder that relative image paths start from. By default the table's own folder, or the working
    /// directory for an image that is not found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

fn default_image_column() -> String {
    "filepath".into()
}

impl LabelledCsvConfig {
    /// A table with these columns.
    pub(super) fn new(
        path: &Path,
        image_column: String,
        label_column: Option<String>,
        caption_column: Option<String>,
    ) -> Self {
        Self {
            path: path.to_path_buf(),
            train_path: None,
            image_column,
            label_column,
            caption_column,
            separator: None,
            root: None,
        }
    }

    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let path = split_path(split, &self.path, self.train_path.as_ref(), "train_path")?;
        let (column, kind) =
            label_or_caption(self.label_column.as_ref(), self.caption_column.as_ref())?;
        let columns = CsvColumns {
            image: &self.image_column,
            value: column,
            separator: self.separator,
            root: self.root.as_deref(),
        };
        let rows = columns.rows(path)?.into_iter().map(|row| {
            let line = row.line;
            if row.is_short {
                let message = format!("line {line}: fewer cells than the header has");
                return Err(DataError::invalid(path, message));
            }
            row.cells
                .map_err(|error| DataError::invalid(path, format!("line {line}: {}", error.detail)))
        });
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
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
            images: Box::new(Files(files)),
            targets,
        })
    }
}

/// Images in the order of their first rows, with the captions of each.
fn group(rows: Vec<(PathBuf, String)>) -> (Vec<PathBuf>, Vec<Vec<String>>) {
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
    fn rows_of_the_same_image_are_its_captions() {
        let text = "filepath,title\na.jpg,one\nb.jpg,\"two, \"\"2\"\"\"\na.jpg,three\n";
        let dataset = open(text, |table| table.caption_column = Some("title".into())).unwrap();
        let captions = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let wanted = vec![captions(&["one", "three"]), captions(&["two, \"2\""])];
        assert_eq!(*dataset.targets(), Targets::Captions(wanted));
        assert!(dataset.images.locate(1).0.ends_with("b.jpg"));
    }

    #[test]
    fn labels_are_numbers_or_names() {
        let label = |table: &mut LabelledCsvConfig| table.label_column = Some("l".into());
        let dataset = open("filepath,l\na,2\nb,0\n", label).unwrap();
        assert_eq!(*dataset.targets(), Targets::Classes(vec![2, 0]));
        let dataset = open("l,filepath\nowl,a\ncat,b\n", label).unwrap();
        assert_eq!(*dataset.targets(), Targets::Classes(vec![1, 0]));
        assert_eq!(dataset.class_names().unwrap(), ["cat", "owl"]);
        let error = open("filepath,l\na,\n", label).unwrap_err();
        assert!(error.contains("line 2: `l` is empty"), "{error}");
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
