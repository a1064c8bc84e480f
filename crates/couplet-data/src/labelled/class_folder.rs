//! A folder with one subfolder per class.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{Files, LabelledDataset, Split, Targets, split_path};
use crate::formats::DataError;
use crate::formats::class_folder::{ClassFolder, ClassOrder};

/// `source = "class-folder"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledClassFolderConfig {
    /// Folder with one subfolder per class, in alphabetical order; images are at any depth below it.
    pub path: PathBuf,
    /// Folder of the training images, for probes and `[classify]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_path: Option<PathBuf>,
    /// Whether subfolders are named by class numbers, and sorted numerically: 2 before 10.
    #[serde(default)]
    pub numbered: bool,
}

impl LabelledClassFolderConfig {
    /// A dataset in a folder, with the default settings.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            train_path: None,
            numbered: false,
        }
    }

    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let path = split_path(split, &self.path, self.train_path.as_ref(), "train_path")?;
        let order = if self.numbered {
            ClassOrder::Numbers
        } else {
            ClassOrder::Names
        };
        let classes = ClassFolder::open(path, order)?;
        let class_names = classes.stored_names();
        let (files, labels) = classes.files.into_iter().unzip();
        Ok(LabelledDataset {
            path: path.clone(),
            class_names: Some(class_names),
            templates: None,
            images: Box::new(Files(files)),
            targets: Targets::Classes(labels),
        })
    }
}
