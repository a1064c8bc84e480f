//! The config of `[data.train]` and `[data.val]`, which may be a mix of datasets.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_folder::ClassFolderConfig;
use super::csv::CsvConfig;
use super::custom::CustomConfig;
use super::dataset::PairDataset;
use super::folder::FolderConfig;
use super::mix::{MixPairs, MixShards};
use super::parquet::ParquetConfig;
use super::shapes::ShapesConfig;
use super::webdataset::WebdatasetConfig;
use crate::formats::DataError;

/// A source of image-text pairs, with its own keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum SourceConfig {
    /// Images of colored shapes that Couplet draws; nothing to download.
    Shapes(ShapesConfig),
    /// Tar shards of images and captions, on a disk or in an object store.
    Webdataset(WebdatasetConfig),
    /// A table of image paths and captions.
    Csv(CsvConfig),
    /// Parquet files with images or their paths in one column, captions in another.
    Parquet(ParquetConfig),
    /// Images, each with a caption file of the same name.
    Folder(FolderConfig),
    /// One sub-folder per class, with captions from templates.
    ClassFolder(ClassFolderConfig),
    /// Several sources, each with its weight.
    Mix(MixConfig),
    /// Training images of the dataset of `[classify]`, with their classes. The default with
    /// `[classify]`.
    Dataset(DatasetImagesConfig),
    /// A dataset that a program gives to the run; only that program trains with it.
    Custom(CustomConfig),
}

/// `source = "dataset"`: the training images of the dataset of `[classify]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetImagesConfig {}

impl SourceConfig {
    /// A dataset that the program gives to the run by value.
    /// - name: what messages and the run's `config.toml` call it.
    pub fn custom(name: impl Into<String>) -> Self {
        Self::Custom(CustomConfig { name: name.into() })
    }

    /// Invalid values and missing files, as (key, message) pairs.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Shapes(table) => table.problems(),
            Self::Webdataset(table) => table.problems(),
            Self::Csv(table) => table.problems(),
            Self::Parquet(table) => table.problems(),
            Self::Folder(table) => table.problems(),
            Self::ClassFolder(table) => table.problems(),
            Self::Mix(table) => table.problems(),
            Self::Dataset(_) | Self::Custom(_) => Vec::new(),
        }
    }

    /// Opens and indexes the dataset.
    /// - seed: seed of drawn images, and of choosing among several captions.
    /// - image_size: side of drawn images, in pixels.
    ///
    /// # Errors
    /// If a file is missing or not of the kind it should be. Single bad samples are no
    /// errors here: `MapDataset::read` reports them.
    pub fn open(&self, seed: u64, image_size: u32) -> Result<PairDataset, DataError> {
        match self {
            Self::Shapes(table) => Ok(table.open(seed, image_size)),
            Self::Webdataset(table) => table.open(seed),
            Self::Csv(table) => table.open(),
            Self::Parquet(table) => table.open(seed),
            Self::Folder(table) => table.open(seed),
            Self::ClassFolder(table) => table.open(seed),
            Self::Mix(table) => table.open(seed, image_size),
            Self::Custom(table) => Err(DataError::key("source", table.not_given())),
            Self::Dataset(_) => Err(DataError::key(
                "source",
                "`dataset` reads the images of [classify], which is missing; add it or choose another source",
            )),
        }
    }
}

/// `source = "mix"`: several sources, each with its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixConfig {
    /// Sources of the mix, one table each, with the keys of the source and `weight`.
    #[schemars(length(min = 1))]
    pub mix: Vec<MixEntry>,
}

/// One source of a mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MixEntry {
    /// How often a sample of this source is taken: 2 shows each twice as often as 1 does.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub weight: f64,
    #[serde(flatten)]
    pub source: SourceConfig,
}

fn one() -> f64 {
    1.0
}

impl MixConfig {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.mix.is_empty() {
            problems.push(("mix", "the list is empty".to_string()));
        }
        for (at, entry) in self.mix.iter().enumerate() {
            if !(entry.weight.is_finite() && entry.weight > 0.0) {
                problems.push(("mix", format!("[{at}].weight: must be a positive number")));
            }
            if matches!(entry.source, SourceConfig::Mix(_)) {
                problems.push((
                    "mix",
                    format!(
                        "[{at}].source: a mix cannot contain a mix; write all datasets in one list"
                    ),
                ));
                continue;
            }
            for (key, message) in entry.source.problems() {
                problems.push(("mix", format!("[{at}].{key}: {message}")));
            }
        }
        problems
    }
}

impl MixConfig {
    /// - seed: seed of drawn images, and of choosing among several captions.
    /// - image_size: side of drawn images, in pixels.
    pub(super) fn open(&self, seed: u64, image_size: u32) -> Result<PairDataset, DataError> {
        let (mut sources, mut streams) = (Vec::new(), Vec::new());
        for entry in &self.mix {
            match entry.source.open(seed, image_size)? {
                PairDataset::Indexed(source) => sources.push((source, entry.weight)),
                PairDataset::Stream(shards) => streams.push((shards, entry.weight)),
            }
        }
        match (sources.is_empty(), streams.is_empty()) {
            (false, false) => Err(DataError::key(
                "mix",
                "streamed and indexed datasets cannot be mixed: set stream = true for all of them, \
                 or for none",
            )),
            (_, true) => Ok(PairDataset::indexed(MixPairs::new(sources, seed))),
            (true, _) => Ok(PairDataset::Stream(Arc::new(MixShards(streams)))),
        }
    }
}
