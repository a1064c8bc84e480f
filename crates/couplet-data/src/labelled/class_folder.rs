//! A folder with one sub-folder a class.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Files, LabelledDataset, LabelledError, Split, Targets, part_of};
use crate::decode::{IMAGE_EXTENSIONS, is_image_name};

/// `source = "class-folder"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledClassFolderConfig {
    /// Sub-folders are classes, in the order of their names.
    pub path: PathBuf,
    /// The same of images that a probe is fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_path: Option<PathBuf>,
    /// Sub-folders are called by their classes' numbers, and stand in their order: 2 before
    /// 10.
    #[serde(default)]
    pub numbered: bool,
}

impl LabelledClassFolderConfig {
    /// A folder without more to say of it.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            train_path: None,
            numbered: false,
        }
    }

    pub(super) fn open(&self, part: Split) -> Result<LabelledDataset, LabelledError> {
        let key = (self.path.as_path(), "train_path");
        let path = part_of(part, &self.path, self.train_path.as_ref(), key)?;
        let (mut names, mut files) = class_files(path)?;
        if self.numbered {
            (names, files) = by_number(path, &names, files)?;
        }
        let (files, labels) = files.into_iter().unzip();
        Ok(LabelledDataset {
            path: path.clone(),
            class_names: Some(names),
            templates: None,
            images: Box::new(Files(files)),
            targets: Targets::Classes(labels),
        })
    }
}

type Labelled = Vec<(PathBuf, usize)>;

/// Classes in the order of their numbers, which must be those from 0 on.
fn by_number(
    path: &Path,
    names: &[String],
    mut files: Labelled,
) -> Result<(Vec<String>, Labelled), LabelledError> {
    let numbers: Option<Vec<usize>> = names.iter().map(|name| name.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.iter().all(|number| *number < names.len()));
    let Some(numbers) = numbers else {
        let message = format!(
            "numbered = true, but the sub-folders are not called 0 to {}",
            names.len().saturating_sub(1)
        );
        return Err(LabelledError::malformed(path, message));
    };
    for (_, label) in &mut files {
        *label = numbers[*label];
    }
    files.sort_by_key(|(_, label)| *label);
    Ok(((0..names.len()).map(|n| n.to_string()).collect(), files))
}

/// The names of a folder's sub-folders, and their images with the sub-folder's number.
pub(crate) fn class_files(path: &Path) -> Result<(Vec<String>, Labelled), LabelledError> {
    if !path.is_dir() {
        return Err(LabelledError::malformed(
            path,
            "not a folder; it should hold one sub-folder of images a class",
        ));
    }
    let mut class_names = Vec::new();
    let mut files = Vec::new();
    let mut empty = Vec::new();
    for folder in sorted(path)?.into_iter().filter(|entry| entry.is_dir()) {
        let label = class_names.len();
        let name = folder.file_name().unwrap_or_default();
        class_names.push(name.to_string_lossy().into_owned());
        let before = files.len();
        let images = sorted(&folder)?
            .into_iter()
            .filter(|file| is_image_name(file));
        files.extend(images.map(|file| (file, label)));
        if files.len() == before {
            empty.push(class_names[label].clone());
        }
    }
    if files.is_empty() {
        let message = format!(
            "no images ({}) in its {} sub-folders; beside tar shards, test/nshards.txt has their \
             number",
            IMAGE_EXTENSIONS.join(", "),
            class_names.len()
        );
        return Err(LabelledError::malformed(path, message));
    }
    if !empty.is_empty() {
        let message = format!(
            "no images in the sub-folders {}: fill them or take them away",
            empty.join(", ")
        );
        return Err(LabelledError::malformed(path, message));
    }
    Ok((class_names, files))
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, LabelledError> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        // Such as `.git` and what file managers leave.
        paths.retain(|path| {
            let name = path.file_name().unwrap_or_default();
            !name.to_string_lossy().starts_with('.')
        });
        paths.sort();
        Ok(paths)
    };
    list().map_err(LabelledError::io(folder))
}
