//! `[classify]`: the image tower fine-tuned to tell a dataset's classes.

use std::path::PathBuf;

use couplet_data::formats::templates::fill_template;
use couplet_data::source::{PairDataset, SourceConfig, labelled_pairs};
use couplet_data::with_causes;
use couplet_eval::DatasetConfig;
use couplet_loss::Loss;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::check::Check;
use super::{DataConfig, RunConfig};

/// `[classify]`: fine-tunes the image tower with a classifier on its normalized features. The
/// text tower is not trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyConfig {
    /// Dataset with the classes: a TOML file such as those in `datasets/`, or a dataset's
    /// folder. Trains on its training images and evaluates on its test images.
    pub dataset: PathBuf,
    /// Initial weights of the classifier.
    #[serde(default)]
    pub head: HeadStart,
}

/// Initial weights of a classifier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeadStart {
    /// Text features of the classes, times `exp(logit_scale)`: the model starts as its own
    /// zero-shot classifier. Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    /// models".
    #[default]
    ZeroShot,
    /// Zeros.
    Zeros,
}

/// The classes that a run learns to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classes {
    pub head: HeadStart,
    pub class_names: Vec<String>,
    pub templates: Vec<String>,
}

/// Lets `[data.train]` stand for the dataset of `[classify]` where it names no source.
pub(super) fn default_source(table: &mut Table) {
    if !table.contains_key("classify") {
        return;
    }
    let empty = || Value::Table(Table::new());
    let data = table.entry("data").or_insert_with(empty);
    let Some(data) = data.as_table_mut() else {
        return;
    };
    let train = data.entry("train").or_insert_with(empty);
    if let Some(train) = train.as_table_mut() {
        train.entry("source").or_insert_with(|| "dataset".into());
    }
}

impl Check<'_> {
    /// What cannot be together with `[classify]`.
    pub(super) fn classify(&mut self, config: &RunConfig) {
        let is_sigmoid = matches!(config.loss, Loss::Sigmoid(_)) && !self.is_doubtful("loss");
        if config.classify.is_some() && is_sigmoid {
            self.fail("loss.kind", "a classifier learns by the softmax loss");
        }
    }

    /// The training images of a dataset of classes, and what the classes are.
    pub(super) fn classes(
        &mut self,
        table: &ClassifyConfig,
        data: &DataConfig,
        image_size: u32,
    ) -> Option<(PairDataset, Classes)> {
        if !matches!(data.train.source, SourceConfig::Dataset(_)) {
            let message = "[classify] trains on its dataset's images: take the source out";
            self.fail("data.train.source", message);
            return None;
        }
        let opened = DatasetConfig::read(&table.dataset).and_then(|set| set.open(image_size));
        let found = opened.map_err(|error| with_causes(&error)).and_then(|set| {
            let (class_names, templates) = set.classes().map_err(|error| with_causes(&error))?;
            if class_names.len() < 2 {
                return Err("there is one class only: nothing to tell apart".to_string());
            }
            let captions = class_names
                .iter()
                .map(|name| fill_template(&templates[0], name));
            let captions = captions.collect();
            let images = set
                .train_images()
                .map_err(|error| format!("[classify] trains on them: {}", with_causes(&error)))?;
            let classes = Classes {
                head: table.head,
                class_names: class_names.to_vec(),
                templates: templates.to_vec(),
            };
            let set = labelled_pairs(images, captions).map_err(|error| with_causes(&error))?;
            Ok((set, classes))
        });
        found
            .map_err(|message| self.fail("classify.dataset", message))
            .ok()
    }
}
