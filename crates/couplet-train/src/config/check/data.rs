//! The training data, and the batches that are made of it.

use std::sync::Arc;

use couplet_data::shapes::MIN_IMAGE_SIZE;
use couplet_data::source::{MapDataset, PairDataset, SourceConfig};
use couplet_data::with_causes;

use super::super::classify::ClassifyConfig;
use super::super::collect::is_within;
use super::super::micro::MicroBatch;
use super::super::resolved::Classes;
use super::super::schema::common_train_keys;
use super::super::tables::{DataConfig, ModelConfig, RunConfig};
use super::context::Check;
use crate::duration::Sizes;

/// More decoding threads than any machine has cores slow each other down.
const MAX_THREADS: usize = 1024;

impl Check<'_> {
    /// The opened set, with its classes where the run learns to tell them.
    pub(in super::super) fn data(
        &mut self,
        seed: u64,
        model: &ModelConfig,
        data: &DataConfig,
        classify: Option<&ClassifyConfig>,
    ) -> Option<(PairDataset, Option<Classes>)> {
        let train = &data.train;
        for (key, message) in train.source.problems() {
            self.fail(&format!("data.train.{key}"), message);
        }
        if train.samples_per_epoch == Some(0) {
            self.fail("data.train.samples_per_epoch", "must be at least 1");
        }
        for (key, message) in train.augment.problems() {
            self.fail(&format!("data.train.augment.{key}"), message);
        }
        if !(0.0..=1.0).contains(&data.max_skipped) {
            self.fail(
                "data.max_skipped",
                format!("{} is not a fraction from 0 to 1", data.max_skipped),
            );
        }
        if data.threads > MAX_THREADS {
            self.fail(
                "data.threads",
                format!("{} is more than {MAX_THREADS} threads", data.threads),
            );
        }
        if data.max_image_pixels == 0 {
            self.fail("data.max_image_pixels", "must be at least 1");
        }
        let image_size = u32::try_from(model.image.image_size()).unwrap_or(u32::MAX);
        if matches!(train.source, SourceConfig::Shapes(_))
            && image_size < MIN_IMAGE_SIZE
            && !self.any_broken(&["model.image.image_size", "data.train.source"])
        {
            self.fail(
                "model.image.image_size",
                format!("shapes are not distinguishable below {MIN_IMAGE_SIZE} pixels"),
            );
        }
        if self.is_source_broken("data.train") || self.is_broken("classify") {
            return None;
        }
        if let Some(classify) = classify {
            let (set, classes) = self.classes(classify, data, image_size)?;
            return Some((set, Some(classes)));
        }
        let given = self.given.train.clone();
        let set = self.open_source("data.train", &train.source, given, (seed, image_size))?;
        Some((set, None))
    }

    /// Opens the dataset of a table, or takes that of the program.
    pub(super) fn open_source(
        &mut self,
        table: &str,
        source: &SourceConfig,
        given: Option<Arc<dyn MapDataset>>,
        (seed, image_size): (u64, u32),
    ) -> Option<PairDataset> {
        let place = format!("{table}.source");
        match (source, given) {
            (SourceConfig::Custom(_), Some(given)) => return Some(PairDataset::Indexed(given)),
            (SourceConfig::Custom(custom), None) => {
                self.fail(&place, custom.not_given());
                return None;
            }
            (_, Some(_)) => {
                let message = "the program gives a dataset too: name it with `SourceConfig::custom`, or give \
                               none";
                self.fail(&place, message);
                return None;
            }
            (_, None) => {}
        }
        let opened = source.open(seed, image_size);
        opened
            .map_err(|error| self.fail(table, with_causes(&error)))
            .ok()
    }

    /// How many samples an epoch takes.
    pub(super) fn epoch_len(&mut self, config: &RunConfig, set: &PairDataset) -> Option<usize> {
        if self.is_broken("data.train.samples_per_epoch") {
            return None;
        }
        let epoch_len = config.data.train.samples_per_epoch.or(set.samples());
        if epoch_len.is_none() {
            self.fail(
                "data.train.samples_per_epoch",
                "is required: the stream's length is unknown; set the number of samples in an epoch, \
                 or remove data.train.stream for shards on a disk, which are then counted",
            );
        }
        epoch_len
    }

    /// Whether the keys of a source are wrong, which others of its table do not hang on.
    pub(super) fn is_source_broken(&self, table: &str) -> bool {
        let common = common_train_keys();
        self.broken.iter().any(|key| {
            let below = key
                .strip_prefix(table)
                .and_then(|key| key.strip_prefix('.'));
            let name = below.and_then(|key| key.split(['.', '[']).next());
            is_within(table, key) || name.is_some_and(|name| !common.contains(&name))
        })
    }

    /// The parts of a batch.
    fn parts(&mut self, config: &RunConfig, set: Option<&PairDataset>) {
        let global = config.batch.global;
        let Some(parts) = config.batch.parts else {
            return;
        };
        if parts == 0 {
            self.fail("batch.parts", "must be at least 1");
        } else if !global.is_multiple_of(parts) && !self.is_broken("batch.global") {
            let message =
                format!("{parts} does not divide batch.global = {global} into equal parts");
            self.fail("batch.parts", message);
        } else if let Some(PairDataset::Stream(shards)) = set
            && parts > shards.len()
        {
            let message = format!(
                "{parts} is more than the {} shards of the stream, of which each part reads its own; lower \
                 it, or write smaller shards",
                shards.len()
            );
            self.fail("batch.parts", message);
        }
    }

    /// - set: the training set, with how many samples an epoch takes of it.
    pub(super) fn batch(
        &mut self,
        config: &RunConfig,
        set: Option<&PairDataset>,
        epoch_len: Option<usize>,
    ) -> Option<Sizes> {
        let global = config.batch.global;
        let may_be_one = config.classify.is_some() || self.is_broken("classify");
        let least = if may_be_one { 1 } else { 2 };
        if global < least {
            let message = match least {
                1 => "must be at least 1",
                _ => "a contrastive batch needs at least 2 pairs",
            };
            self.fail("batch.global", message);
        }
        if let Some(MicroBatch::Pairs(micro)) = config.batch.micro
            && !self.is_broken("batch.global")
            && (micro == 0 || !global.is_multiple_of(micro))
        {
            self.fail(
                "batch.micro",
                format!("{micro} does not divide batch.global = {global} into equal parts"),
            );
        }
        self.parts(config, set);
        let has_blocks = config.model.image.has_blocks();
        if config.batch.recompute_blocks && !has_blocks && !self.is_broken("model.image.kind") {
            self.fail(
                "batch.recompute_blocks",
                "a ResNet's batch norms would see each batch twice: set batch.micro instead",
            );
        }
        if config.batch.micro == Some(MicroBatch::Auto) && config.trains_norms() {
            self.fail(
                "batch.micro",
                "a ResNet's batch norms see one micro-batch at a time, so its size is part of the model: give a number",
            );
        }
        if config.batch.logit_rows == Some(0) {
            self.fail("batch.logit_rows", "must be at least 1");
        }
        let epoch_len = epoch_len?;
        if global > epoch_len {
            self.fail(
                "batch.global",
                format!("{global} is more than the {epoch_len} samples of an epoch"),
            );
        }
        let sound = global >= least && global <= epoch_len && !self.is_broken("batch.global");
        sound.then(|| Sizes {
            steps_per_epoch: (epoch_len / global) as u64,
            batch_size: global as u64,
        })
    }
}
