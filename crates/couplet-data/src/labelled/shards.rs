//! Tar shards of images and captions, as they are trained on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{LabelledDataset, Split, Targets, split_path};
use super::webdataset::read_shards;
use crate::formats::{DataError, Patterns};
use crate::source::captions::CaptionRule;

/// `source = "shards"` in a dataset file: tar shards with a caption for each image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledShardsConfig {
    /// The shards of the test images.
    pub shards: Patterns,
    /// The shards of the training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_shards: Option<Patterns>,
    /// Key of a `.json` member that holds the caption or a list of captions, instead of a `.txt` member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_key: Option<String>,
    /// Treats every line of the `.txt` as a caption of its own; else the whole text is one.
    #[serde(default)]
    pub one_of_lines: bool,
}

impl LabelledShardsConfig {
    pub fn new(shards: Patterns) -> Self {
        Self {
            shards,
            train_shards: None,
            caption_key: None,
            one_of_lines: false,
        }
    }

    pub(super) fn open(&self, split: Split) -> Result<LabelledDataset, DataError> {
        let train = self.train_shards.as_ref();
        let shards = split_path(split, &self.shards, train, "train_shards")?;
        if let Some((key, message)) = shards.problems("shards").into_iter().next() {
            return Err(DataError::key(key, message));
        }
        let paths = shards.paths();
        let paths = paths.map_err(|message| DataError::key("shards", message))?;
        let path = paths.first().cloned().unwrap_or_default();
        let rule = CaptionRule {
            key: self.caption_key.clone(),
            one_of_lines: self.one_of_lines,
            seed: 0,
        };
        let (images, captions) = read_shards(paths, rule.extension())?;
        let captions = captions.into_iter().map(|(key, bytes)| {
            let message = |detail: String| format!("{key}.{}: {detail}", rule.extension());
            rule.all(bytes)
                .map_err(|error| DataError::invalid(&path, message(error.detail)))
        });
        let captions = captions.collect::<Result<_, _>>()?;
        Ok(LabelledDataset {
            class_names: None,
            templates: None,
            images: Box::new(images),
            targets: Targets::Captions(captions),
            path,
        })
    }
}
