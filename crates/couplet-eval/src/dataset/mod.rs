//! Evaluation datasets, described by a TOML file or by a folder.

mod built_in;
mod datacomp;
mod find;
mod lists;
mod main_metric;
mod summary;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use couplet_data::formats::class_names::{class_names, wordnet_warning};
use couplet_data::formats::templates::{DEFAULT_TEMPLATE, template_problem};
use couplet_data::formats::{DataError, Place};
use couplet_data::labelled::{LabelledConfig, LabelledDataset, Split, Targets};
use couplet_data::paths::{NotThere, PathBase};
use schemars::JsonSchema;
use serde::Deserialize;

pub use built_in::built_in_datasets;
pub use datacomp::{DatacompTask, datacomp_tasks};
pub use find::{dataset_advice, dataset_path_kind};
pub use main_metric::MainMetric;
pub use summary::DatasetSummary;

/// A dataset file, such as those in `datasets/`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct DatasetConfig {
    /// Metrics are logged as `eval/<name>/<metric>`.
    pub name: String,
    /// One name per class, in class order. By default the lines of `classnames.txt` in the dataset's
    /// folder, else the names that the storage provides.
    #[serde(default)]
    pub class_names: Option<ListOrFile>,
    /// Prompt templates with `{}` or `{c}` for the class name. By default the lines of `templates.txt`
    /// in the dataset's folder, else "a photo of a {}.".
    #[serde(default)]
    pub templates: Option<ListOrFile>,
    /// The metric by which results on the dataset are compared, for readers of the file; `f1_macro` is reported only
    /// if it is this one.
    #[serde(default)]
    pub metric: Option<MainMetric>,
    /// Who made the dataset, for readers of the file.
    #[serde(default)]
    pub citation: Option<String>,
    /// Where to get the files; printed if they are missing.
    #[serde(default)]
    pub origin: Option<String>,
    /// The folder of the dataset file; paths of `class_names` and `templates` may start from it.
    #[serde(skip)]
    home: PathBuf,
    /// Whether the file is built in, with the lists that it names.
    #[serde(skip)]
    is_built_in: bool,
    /// Files that are not where they were looked for.
    #[serde(skip)]
    missing: Vec<MissingFile>,
    /// What was found at a path that no dataset file describes.
    #[serde(skip)]
    found: Option<String>,
    #[serde(flatten)]
    pub source: LabelledConfig,
}

/// A key, the split that needs its files, and where they were looked for.
type MissingFile = (&'static str, Split, NotThere);

/// A list, or a file with one entry per line or a JSON list, `FILE.json#KEY` for a list in a JSON object; its path is
/// relative to the dataset file's folder or to the dataset's folder.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of strings or a file's path")]
pub enum ListOrFile {
    List(Vec<String>),
    File(PathBuf),
}

/// Images and targets to evaluate a model on.
#[derive(Debug)]
pub struct Dataset {
    pub name: String,
    pub task: Task,
    /// The metric by which results are compared, if the dataset's file says so.
    pub metric: Option<MainMetric>,
    pub images: LabelledDataset,
    /// What was found at a path that no dataset file describes, in words.
    pub found: Option<String>,
    config: LabelledConfig,
    missing: Vec<MissingFile>,
    image_size: u32,
}

/// The task that a dataset evaluates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Classify images by the names of the classes.
    Classify {
        class_names: Vec<String>,
        templates: Vec<String>,
    },
    /// Find captions for images and images for captions.
    Retrieve,
}

/// Why a dataset could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{}: cannot be read; check the path", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not a valid dataset file", path.display())]
    Toml {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{path}: {message}")]
    NoSuch { path: String, message: String },
    #[error("{}: {message}", path.display())]
    Unsound { path: PathBuf, message: String },
    #[error("the {split} images of `{name}` cannot be opened{}", available(origin.as_deref()))]
    Images {
        name: String,
        /// `training` or `test`.
        split: &'static str,
        source: DataError,
        origin: Option<String>,
    },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("{name}: {message}")]
    Unfit { name: String, message: String },
}

fn available(origin: Option<&str>) -> String {
    origin.map_or(String::new(), |origin| format!("; to get it: {origin}"))
}

impl Dataset {
    /// The training images, for probes and fine-tuning. Their class numbers are those of the test
    /// images.
    ///
    /// # Errors
    /// If the dataset has none, they cannot be opened, or their classes differ from those of the test
    /// images.
    pub fn train_images(&self) -> Result<LabelledDataset, DatasetError> {
        let opened = check_there(&self.missing, Split::Train)
            .and_then(|()| self.config.open(Split::Train, self.image_size));
        let train = opened.map_err(|source| DatasetError::Images {
            name: self.name.clone(),
            split: "training",
            source,
            origin: None,
        })?;
        match (train.class_names(), self.images.class_names()) {
            (Some(own), Some(test)) if own != test => {
                Err(self.unsuitable(&class_differences(own, test)))
            }
            (Some(_), None) | (None, Some(_)) if matches!(self.config, LabelledConfig::Csv(_)) => {
                Err(self.unsuitable("has labels that are numbers in one split, names in the other"))
            }
            _ => Ok(train),
        }
    }

    /// The class names and templates.
    ///
    /// # Errors
    /// If the dataset has captions instead of classes.
    pub fn classes(&self) -> Result<(&[String], &[String]), DatasetError> {
        match &self.task {
            Task::Classify {
                class_names,
                templates,
            } => Ok((class_names, templates)),
            Task::Retrieve => {
                Err(self.unsuitable("has captions but no classes; evaluate retrieval"))
            }
        }
    }

    /// The captions of each image.
    ///
    /// # Errors
    /// If the dataset has classes instead of captions.
    pub fn captions(&self) -> Result<&[Vec<String>], DatasetError> {
        match self.images.targets() {
            Targets::Captions(captions) => Ok(captions),
            _ => Err(self.unsuitable("has classes but no captions; evaluate zero-shot")),
        }
    }

    pub(crate) fn unsuitable(&self, message: &str) -> DatasetError {
        DatasetError::Unfit {
            name: self.name.clone(),
            message: message.to_string(),
        }
    }
}

/// Fails if files that a split needs are not there.
fn check_there(missing: &[MissingFile], split: Split) -> Result<(), DataError> {
    let needed = missing.iter().find(|(_, own, _)| *own == split);
    needed.map_or(Ok(()), |(key, _, not_there)| {
        Err(DataError::Invalid {
            place: Place::Key(key),
            message: not_there.to_string(),
        })
    })
}

/// How the classes of training and test images differ, as a message.
fn class_differences(train: &[String], test: &[String]) -> String {
    let lacks = |all: &[String], some: &[String]| {
        let missing = all.iter().filter(|name| !some.contains(name));
        missing.cloned().collect::<Vec<_>>().join(", ")
    };
    let lists = [
        ("training", lacks(test, train)),
        ("test", lacks(train, test)),
    ];
    let lists = lists.iter().filter(|(_, missing)| !missing.is_empty());
    let lists =
        lists.map(|(split, missing)| format!("the {split} images lack the classes {missing}"));
    let lists: Vec<String> = lists.collect();
    if lists.is_empty() {
        "the training images have the classes in another order than the test images".to_string()
    } else {
        lists.join("; ")
    }
}

impl DatasetConfig {
    /// Reads a dataset file (`.toml`), or finds out what a folder, a table, shards or the files that a
    /// pattern matches are. The plain name of a built-in dataset is that dataset.
    ///
    /// # Errors
    /// If the file is missing or invalid, or the files are no dataset.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        Self::read_in(path, None)
    }

    /// As [`Self::read`].
    /// - data_root: replaces the dataset file's folder as the start of the paths in it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_in(path: &Path, data_root: Option<&Path>) -> Result<Self, DatasetError> {
        let built_in = path.to_str().and_then(built_in::dataset);
        // A path of one name is marked so, to be no built-in dataset's.
        let rest = path.strip_prefix(".").ok();
        let path = (rest.filter(|rest| *rest != Path::new(""))).unwrap_or(path);
        if built_in.is_none() && (path.is_dir() || LabelledConfig::is_data_file(path)) {
            return Self::detect(path);
        }
        let text = match built_in {
            Some(text) => Ok(text.to_string()),
            None => fs::read_to_string(path),
        };
        let text = text.map_err(|source| DatasetError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let mut table: Self = toml::from_str(&text).map_err(|source| DatasetError::Toml {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        table.home = path.parent().unwrap_or(Path::new("")).to_path_buf();
        table.is_built_in = built_in.is_some();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if table.name.is_empty() || !table.name.chars().all(plain) {
            return Err(DatasetError::Unsound {
                path: path.to_path_buf(),
                message: format!(
                    "name `{}` may only contain letters, digits, `-`, `_` and `.`",
                    table.name
                ),
            });
        }
        let base = if table.is_built_in {
            PathBase::built_in(data_root)
        } else {
            PathBase::of_file(path, data_root)
        };
        table.missing = table.source.find_files(&base);
        Ok(table)
    }

    /// Opens the dataset.
    /// - image_size: side of drawn images, in pixels.
    ///
    /// # Errors
    /// If the images, the class names or the templates are missing, or do not match.
    pub fn open(&self, image_size: u32) -> Result<Dataset, DatasetError> {
        let opened = check_there(&self.missing, Split::Test)
            .and_then(|()| self.source.open(Split::Test, image_size));
        let images = opened.map_err(|source| DatasetError::Images {
            name: self.name.clone(),
            split: "test",
            source,
            origin: self.origin.clone(),
        })?;
        if images.is_empty() {
            return Err(invalid(images.path(), "the dataset has no images"));
        }
        let task = match images.targets() {
            Targets::Captions(_) => Task::Retrieve,
            _ => self.classes(&images)?,
        };
        Ok(Dataset {
            name: self.name.clone(),
            task,
            metric: self.metric,
            images,
            config: self.source.clone(),
            missing: self.missing.clone(),
            found: self.found.clone(),
            image_size,
        })
    }

    /// The class names and templates, checked against the labels.
    fn classes(&self, images: &LabelledDataset) -> Result<Task, DatasetError> {
        let own = images.class_names();
        let given = self.given_class_names()?;
        let found = class_names(given, self.source.folder(), own)?;
        let (count, what) = match (own, images.targets()) {
            (Some(names), _) => (names.len(), format!(" ({})", names.join(", "))),
            (None, Targets::MultiLabel(rows)) => (rows.first().map_or(0, Vec::len), String::new()),
            (None, Targets::Classes(labels)) => {
                let most = labels.iter().max().map_or(0, |most| most + 1);
                // The labels alone do not say whether there are more classes.
                let count = found.as_ref().map_or(most, |names| names.len().max(most));
                (count, String::new())
            }
            (None, Targets::Captions(_)) => (0, String::new()),
        };
        if let Targets::Classes(labels) = images.targets()
            && let Some(at) = labels.iter().position(|label| *label >= count)
        {
            let message = format!(
                "image {at} has the label {}, of {count} classes{what}",
                labels[at]
            );
            return Err(invalid(images.path(), message));
        }
        let class_names = found.ok_or_else(|| {
            let message = "the classes have no names: set class_names in the dataset's file";
            invalid(images.path(), message)
        })?;
        let fail = |message: String| Err(invalid(images.path(), message));
        if class_names.len() != count {
            let names = class_names.len();
            return fail(format!(
                "{names} class names for {count} classes{what}; list one name per class"
            ));
        }
        if let ([name], Targets::Classes(_)) = (&class_names[..], images.targets()) {
            return fail(format!(
                "only one class, `{name}`, so that any model is right; a folder of classes has a subfolder \
                 for each of them"
            ));
        }
        if let Some(at) = class_names.iter().position(|name| name.trim().is_empty()) {
            return fail(format!("the name of class {at} is blank"));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = class_names.iter().find(|name| !seen.insert(*name)) {
            // Some published lists have duplicates; zero-shot then always predicts the first.
            tracing::warn!(dataset = self.name, "two classes have the name `{twice}`");
        }
        if let Some(warning) = wordnet_warning(images.path(), &class_names) {
            tracing::warn!("{warning}");
        }
        let templates = self.given_templates()?;
        let templates = templates
            .or_else(|| images.templates().map(<[String]>::to_vec))
            .unwrap_or_else(|| vec![DEFAULT_TEMPLATE.to_string()]);
        if let Some(problem) = template_problem(&templates) {
            return fail(format!("templates: {problem}"));
        }
        Ok(Task::Classify {
            class_names,
            templates,
        })
    }
}

fn invalid(path: &Path, message: impl Into<String>) -> DatasetError {
    DatasetError::Unsound {
        path: path.to_path_buf(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests;
