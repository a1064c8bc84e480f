//! Datasets described by a file of `datasets/`, or by a folder that describes itself.

use std::fs;
use std::path::{Path, PathBuf};

use couplet_data::labelled::{ClassFolderTable, LabelledError, LabelledSet, LabelledTable};
use serde::Deserialize;

const CLASS_NAMES_FILE: &str = "classnames.txt";
const TEMPLATES_FILE: &str = "templates.txt";
const DEFAULT_TEMPLATE: &str = "a photo of a {}.";

/// A file of `datasets/`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DatasetTable {
    /// Metrics are logged as `eval/<name>/<metric>`.
    pub name: String,
    /// One name a class, in class order. By default `classnames.txt` in the set's folder,
    /// else the names that the storage has.
    #[serde(default)]
    pub class_names: Option<Lines>,
    /// Sentences with `{}` or `{c}` for the class name. By default `templates.txt` in the
    /// set's folder, else "a photo of a {}.".
    #[serde(default)]
    pub templates: Option<Lines>,
    /// Where the set comes from, for people.
    #[serde(default)]
    pub citation: Option<String>,
    #[serde(flatten)]
    pub source: LabelledTable,
}

/// A list, or a file with one entry a line, relative to the set's folder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a list of strings or a file's path")]
pub enum Lines {
    List(Vec<String>),
    File(PathBuf),
}

/// A labelled set with what a zero-shot classifier needs to know of its classes.
#[derive(Debug)]
pub struct Dataset {
    pub name: String,
    pub class_names: Vec<String>,
    pub templates: Vec<String>,
    pub images: LabelledSet,
}

/// Why a dataset could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {}", path.display(), source.to_string().trim_end())]
    Toml {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{}: {message}", path.display())]
    Unsound { path: PathBuf, message: String },
    #[error(transparent)]
    Images(#[from] LabelledError),
}

impl DatasetTable {
    /// Reads a dataset's file; a folder stands for itself, one sub-folder a class.
    ///
    /// # Errors
    /// If the file is missing or is not a dataset's.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        if path.is_dir() {
            let name = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
            return Ok(Self {
                name: name
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                class_names: None,
                templates: None,
                citation: None,
                source: LabelledTable::ClassFolder(ClassFolderTable { path: path.into() }),
            });
        }
        let text = fs::read_to_string(path).map_err(|source| DatasetError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let table: Self = toml::from_str(&text).map_err(|source| DatasetError::Toml {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if table.name.is_empty() || !table.name.chars().all(plain) {
            return Err(DatasetError::Unsound {
                path: path.to_path_buf(),
                message: format!(
                    "name `{}` may hold letters, digits, - _ and . only",
                    table.name
                ),
            });
        }
        Ok(table)
    }

    /// Opens the set.
    /// - image_size: side of the pictures that are drawn, in pixels.
    ///
    /// # Errors
    /// If the images, the class names or the templates are missing or do not fit together.
    pub fn open(&self, image_size: u32) -> Result<Dataset, DatasetError> {
        let images = LabelledSet::open(&self.source, image_size)?;
        let folder = match &self.source {
            LabelledTable::ClassFolder(table) => Some(table.path.as_path()),
            LabelledTable::Shapes(_) => None,
        };
        let class_names = lines(self.class_names.as_ref(), CLASS_NAMES_FILE, folder)?
            .unwrap_or_else(|| images.class_names().to_vec());
        let templates = lines(self.templates.as_ref(), TEMPLATES_FILE, folder)?
            .unwrap_or_else(|| vec![DEFAULT_TEMPLATE.to_string()]);
        let unsound = |message: String| DatasetError::Unsound {
            path: folder.unwrap_or(Path::new(&self.name)).to_path_buf(),
            message,
        };
        if class_names.len() != images.class_names().len() {
            return Err(unsound(format!(
                "{} class names for {} classes ({})",
                class_names.len(),
                images.class_names().len(),
                images.class_names().join(", ")
            )));
        }
        if templates.is_empty() {
            return Err(unsound("the list of templates is empty".into()));
        }
        if let Some(template) = templates
            .iter()
            .find(|t| !t.contains("{}") && !t.contains("{c}"))
        {
            return Err(unsound(format!(
                "template `{template}` has no {{}} or {{c}}"
            )));
        }
        if images.is_empty() {
            return Err(unsound("the set has no images".into()));
        }
        Ok(Dataset {
            name: self.name.clone(),
            class_names,
            templates,
            images,
        })
    }
}

fn lines(
    given: Option<&Lines>,
    default_file: &str,
    folder: Option<&Path>,
) -> Result<Option<Vec<String>>, DatasetError> {
    let path = match (given, folder) {
        (Some(Lines::List(list)), _) => return Ok(Some(list.clone())),
        (Some(Lines::File(file)), Some(folder)) => folder.join(file),
        (Some(Lines::File(file)), None) => file.clone(),
        (None, Some(folder)) if folder.join(default_file).is_file() => folder.join(default_file),
        (None, _) => return Ok(None),
    };
    let text = fs::read_to_string(&path).map_err(|source| DatasetError::Io {
        path: path.clone(),
        source,
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(Some(lines.map(str::to_string).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<DatasetTable, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn unknown_keys_of_any_kind_are_refused() {
        let shapes = "name = 's'\nsource = 'shapes'\nsplit = 'test'\nclasses = 'pairs'\n";
        assert!(table(&format!("{shapes}samples = 9\n")).is_ok());
        let error = table(&format!("{shapes}samples = 9\ntemplate = []\n")).unwrap_err();
        assert!(error.to_string().contains("template"), "{error}");
    }

    #[test]
    fn shapes_bring_their_own_class_names() {
        let table = table(
            "name = 's'\nsource = 'shapes'\nsplit = 'test'\nclasses = 'shapes'\nsamples = 3\n",
        )
        .unwrap();
        let dataset = table.open(16).unwrap();
        assert_eq!(dataset.class_names[3], "star");
        assert_eq!(dataset.templates, [DEFAULT_TEMPLATE]);
    }

    #[test]
    fn a_folder_brings_its_names_and_templates() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["0", "1"] {
            fs::create_dir(folder.path().join(class)).unwrap();
            fs::write(folder.path().join(class).join("a.png"), b"x").unwrap();
        }
        fs::write(folder.path().join(CLASS_NAMES_FILE), "zero\none\n").unwrap();
        fs::write(folder.path().join(TEMPLATES_FILE), "the digit {c}\n\n{}\n").unwrap();
        let table = DatasetTable::read(folder.path()).unwrap();
        let dataset = table.open(16).unwrap();
        assert_eq!(dataset.class_names, ["zero", "one"]);
        assert_eq!(dataset.templates, ["the digit {c}", "{}"]);

        fs::write(folder.path().join(CLASS_NAMES_FILE), "zero\n").unwrap();
        let error = table.open(16).unwrap_err().to_string();
        assert!(
            error.contains("1 class names for 2 classes (0, 1)"),
            "{error}"
        );
        fs::write(folder.path().join(CLASS_NAMES_FILE), "zero\none\n").unwrap();
        fs::write(folder.path().join(TEMPLATES_FILE), "the digit\n").unwrap();
        let error = table.open(16).unwrap_err().to_string();
        assert!(error.contains("`the digit` has no {} or {c}"), "{error}");
    }
}
