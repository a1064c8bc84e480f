//! `[classify]`: its dataset, and what cannot be together with it.

use couplet_data::formats::templates::fill_template;
use couplet_data::source::{PairDataset, SourceConfig, labelled_pairs};
use couplet_data::with_causes;
use couplet_eval::DatasetConfig;
use couplet_loss::Loss;

use super::super::classify::ClassifyConfig;
use super::super::resolved::Classes;
use super::super::tables::{DataConfig, RunConfig};
use super::context::Check;

impl Check<'_> {
    /// What cannot be together with `[classify]`.
    pub(super) fn classify(&mut self, config: &RunConfig) {
        let is_softmax = matches!(config.loss, Loss::Softmax(_)) || self.is_doubtful("loss");
        if config.classify.is_some() && !is_softmax {
            self.fail("loss.kind", "[classify] needs the softmax loss");
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
            let message = "[classify] trains on its dataset's images: remove the source";
            self.fail("data.train.source", message);
            return None;
        }
        let opened = DatasetConfig::read_in(&table.dataset, self.data_root)
            .and_then(|set| set.open(image_size));
        let opened = opened
            .map_err(|error| self.fail_dataset("classify.dataset", &error))
            .ok()?;
        let found = Ok(opened).and_then(|set| {
            let (class_names, templates) = set.classes().map_err(|error| with_causes(&error))?;
            if class_names.len() < 2 {
                return Err(
                    "the dataset has only one class; a classifier needs at least 2".to_string(),
                );
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
