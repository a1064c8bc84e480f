//! Finding the dataset that a path or a name means.

use std::path::{Path, PathBuf};

use couplet_data::labelled::LabelledConfig;
use couplet_data::paths::{NotThere, PathBase, PathKind};
use couplet_data::printable;

use super::built_in::{built_in_datasets, dataset, nearest};
use super::datacomp::unscored;
use super::{DatasetConfig, DatasetError};

/// How a path that names a dataset is looked for.
pub fn dataset_path_kind(path: &str) -> PathKind {
    PathKind::Dataset {
        is_built_in: dataset(path).is_some(),
    }
}

/// What is wrong with a path that names no dataset: where it was looked for and, if it looks like a
/// name, the nearest built-in dataset and all of them.
pub fn dataset_advice(missing: &NotThere) -> String {
    if let Some((task, why)) = unscored(&missing.path).and_then(|task| Some((task, task.unscored?)))
    {
        let name = task.name;
        return format!("no such dataset: {name} of DataComp's tasks cannot be scored: {why}");
    }
    if missing.path.contains(['/', '\\', '.', '*', '{']) {
        return format!("no such dataset; {missing}");
    }
    let sought = missing.sought.iter().map(|path| path.display().to_string());
    let sought: Vec<String> = sought.collect();
    let meant = nearest(&missing.path);
    let meant = meant.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
    let names: Vec<&str> = built_in_datasets().collect();
    format!(
        "no such dataset: neither built in ({}, and those of `couplet eval datasets --datacomp`) nor at {}{meant}",
        names.join(", "),
        sought.join(", ")
    )
}

impl DatasetConfig {
    /// A dataset that no file describes.
    pub(super) fn detect(path: &Path) -> Result<Self, DatasetError> {
        let (source, found) = LabelledConfig::detect(path)?;
        let is_pattern = !path.exists();
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = match (whole.is_dir(), whole.parent()) {
            (true, _) => whole.file_name(),
            (false, Some(folder)) if is_pattern => folder.file_name(),
            (false, _) => whole.file_stem(),
        };
        let name = name.unwrap_or(whole.as_os_str()).to_string_lossy();
        Ok(Self {
            name: name.into_owned(),
            class_names: None,
            templates: None,
            metric: None,
            citation: None,
            origin: None,
            home: PathBuf::new(),
            is_built_in: false,
            missing: Vec::new(),
            found: Some(found),
            source,
        })
    }

    /// Reads what a path or a name on the command line means: a path from the working directory on, a
    /// built-in dataset, or a path in the data root.
    /// - data_root: replaces the dataset file's folder as the start of the paths in it.
    ///
    /// # Errors
    /// If there is no such dataset, or its file is invalid.
    pub fn find(path: &Path, data_root: Option<&Path>) -> Result<Self, DatasetError> {
        let text = path.to_string_lossy();
        let base = PathBase::working_dir(data_root);
        let found = base.find("--dataset", &text, dataset_path_kind(&text));
        let found = found.map_err(|missing| DatasetError::NoSuch {
            path: printable(&text).into_owned(),
            message: dataset_advice(&missing),
        })?;
        Self::read_in(found.as_ref(), data_root)
    }
}
