//! Folders of images with captions next to them.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{Files, LabelledDataset, Split, Targets, split_path};
use crate::error::printable_path;
use crate::formats::files::{MAX_TEXT_BYTES, read_regular};
use crate::formats::{DataError, caption_files};
use crate::source::captions::CaptionRule;

/// `source = "folder"` in a dataset file: images, each with a caption file of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledFolderConfig {
    /// Folder that is searched for images, with its sub-folders.
    pub path: PathBuf,
    /// Folder of the training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_path: Option<PathBuf>,
    /// Key of a `.json` file that holds the caption or a list of captions, instead of a `.txt` file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_key: Option<String>,
    /// Treats every line of the `.txt` as a caption of its own; else the whole text is one.
    #[serde(default)]
    pub one_of_lines: bool,
}

impl LabelledFolderConfig {
    /// - caption_key: of `.json` files; `None` for `.txt` files.
    pub fn new(path: &Path, caption_key: Option<String>) -> Self {
        Self {
            path: path.to_path_buf(),
            train_path: None,
            caption_key,
            one_of_lines: false,
        }
    }

    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let path = split_path(split, &self.path, self.train_path.as_ref(), "train_path")?;
        let rule = CaptionRule {
            key: self.caption_key.clone(),
            one_of_lines: self.one_of_lines,
            seed: 0,
        };
        let pairs = caption_files::list(path, rule.extension())?;
        // A text without an image, such as a README, is no sample.
        let pairs = pairs.into_iter().filter_map(|(_, files)| {
            let image = files.image?;
            Some((image, files.caption))
        });
        let (images, captions): (Vec<_>, Vec<_>) = pairs.unzip();
        let without = captions.iter().filter(|caption| caption.is_none()).count();
        if let Some(first) = captions.iter().position(Option::is_none) {
            let message = format!(
                "{without} of {} images have no .{} next to them, the first is {}; add their captions or \
                 remove them, because metrics of fewer images could not be compared",
                images.len(),
                rule.extension(),
                printable_path(&images[first])
            );
            return Err(DataError::invalid(path, message));
        }
        let files: Vec<PathBuf> = captions.into_iter().flatten().collect();
        let read = |file: &PathBuf| {
            let bytes = read_regular(file, MAX_TEXT_BYTES).map_err(DataError::io(file))?;
            let texts = rule.all(bytes);
            texts.map_err(|error| DataError::invalid(file, error.detail))
        };
        let captions: Result<Vec<_>, DataError> = files.par_iter().map(read).collect();
        Ok(LabelledDataset {
            path: path.clone(),
            class_names: None,
            templates: None,
            images: Box::new(Files(images)),
            targets: Targets::Captions(captions?),
        })
    }
}
