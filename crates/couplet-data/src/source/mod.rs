//! Where image-text pairs come from. A set is indexed at the start, so that its order can
//! be a true permutation and a sample can be read on its own; or it is a stream of shards.

mod captions;
mod csv;
mod files;
mod folder;
mod labelled;
mod mix;
mod parquet;
mod storage;
mod webdataset;

pub use csv::CsvConfig;
pub use files::Patterns;
pub use folder::{ClassFolderConfig, FolderConfig};
pub use mix::{MixConfig, MixEntry};
pub use parquet::ParquetConfig;
#[cfg(feature = "parquet")]
pub(crate) use parquet::{Labels, ParquetImages};
pub use webdataset::{Damage, WebdatasetConfig, index_shards};
pub(crate) use webdataset::{ShardFile, ShardMembers};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::labelled::LabelledDataset;
use crate::sample::{Sample, SampleError, SkipCause, Skipped};
use crate::shapes::{ShapesConfig, ShapesSource};
use crate::stream::{ShardOrder, ShardedDataset, StreamSample, Walk};

/// A set of image-text pairs that can be read in any order, from any thread.
pub trait MapDataset: Send + Sync {
    /// Samples in the set, unusable ones included.
    fn len(&self) -> usize;

    /// Whether the set holds no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one sample. `epoch` matters to sets that show another view in each epoch.
    ///
    /// # Errors
    /// If the sample is unusable; the set stays readable.
    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError>;

    /// The file that holds the sample that [`Self::read`] gives, and its key inside it.
    fn locate(&self, index: usize, epoch: u64) -> (String, String);

    /// The sets that this one draws from, where an epoch does not show all of them.
    fn parts(&self) -> Vec<Arc<dyn MapDataset>> {
        Vec::new()
    }
}

/// An opened set.
#[derive(Clone)]
pub enum PairDataset {
    Indexed(Arc<dyn MapDataset>),
    Stream(Arc<dyn ShardedDataset>),
}

impl PairDataset {
    /// Samples in the set, unusable ones included, where that is known.
    pub fn samples(&self) -> Option<usize> {
        match self {
            Self::Indexed(source) => Some(source.len()),
            Self::Stream(shards) => shards.samples(),
        }
    }

    /// The images of a labelled set, each with its class.
    /// - captions: one a class.
    ///
    /// # Errors
    /// If an image has no class, several, or one without a caption.
    pub fn labelled(images: LabelledDataset, captions: Vec<String>) -> Result<Self, SourceError> {
        Ok(Self::indexed(labelled::LabelledSource::new(
            images, captions,
        )?))
    }

    fn indexed(source: impl MapDataset + 'static) -> Self {
        Self::Indexed(Arc::new(source))
    }
}

/// A sample of a set, to be read by whoever works on it.
pub(crate) enum Item {
    Index(usize),
    /// With its shard.
    StreamSample(usize, StreamSample),
}

/// The source's part of `[data.train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum SourceConfig {
    /// Pictures of coloured shapes, drawn by Couplet itself.
    Shapes(ShapesConfig),
    /// Tar files of images with captions beside them.
    Webdataset(WebdatasetConfig),
    /// A table that names image files and their captions.
    Csv(CsvConfig),
    /// Tables with images or their paths in one column, captions in another. Needs the
    /// feature `parquet`.
    Parquet(ParquetConfig),
    /// Images with a text file beside each.
    Folder(FolderConfig),
    /// Images in one sub-folder a class, captions from templates.
    ClassFolder(ClassFolderConfig),
    /// Several of these, each with its share.
    Mix(MixConfig),
    /// The training images of `[classify]`'s dataset, each with its class. The default
    /// where there is a `[classify]`.
    Dataset(DatasetImagesConfig),
}

/// `source = "dataset"`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetImagesConfig {}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct SourceError {
    pub path: PathBuf,
    pub message: String,
}

impl SourceConfig {
    /// What is wrong with the values, each with its key; missing files included.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Shapes(table) => table.problems(),
            Self::Webdataset(table) => table.problems(),
            Self::Csv(table) => table.problems(),
            Self::Parquet(table) => table.problems(),
            Self::Folder(table) => table.problems(),
            Self::ClassFolder(table) => table.problems(),
            Self::Mix(table) => table.problems(),
            Self::Dataset(_) => Vec::new(),
        }
    }

    /// Opens and indexes the set.
    /// - seed: what pictures, or one of several captions, are drawn from.
    /// - image_size: side of the pictures that are drawn, in pixels.
    ///
    /// # Errors
    /// If a file is missing or not of the kind it should be. Single bad samples are no
    /// errors here: [`MapDataset::read`] reports them.
    pub fn open(&self, seed: u64, image_size: u32) -> Result<PairDataset, SourceError> {
        Ok(match self {
            Self::Shapes(table) => {
                PairDataset::indexed(ShapesSource::train(table, seed, image_size))
            }
            Self::Webdataset(table) => table.open(seed)?,
            Self::Csv(table) => PairDataset::indexed(csv::CsvSource::open(table)?),
            Self::Parquet(table) => table.open(seed)?,
            Self::Folder(table) => PairDataset::indexed(folder::FolderSource::open(table, seed)?),
            Self::ClassFolder(table) => {
                PairDataset::indexed(folder::ClassFolderSource::open(table, seed)?)
            }
            Self::Mix(table) => table.open(seed, image_size)?,
            Self::Dataset(_) => {
                return Err(SourceError {
                    path: PathBuf::from("source"),
                    message: "`dataset` stands for the images of [classify], which is missing"
                        .into(),
                });
            }
        })
    }
}

/// Reads the sample that is worked on.
pub(crate) type Read<'a> = Box<dyn FnOnce() -> Result<Sample, SampleError> + 'a>;

impl PairDataset {
    /// Does what one sample needs. A fault, or a decoder that panics on damaged bytes, costs
    /// the sample and not the run.
    pub(crate) fn attempt<T>(
        &self,
        item: Item,
        epoch: u64,
        work: impl FnOnce(Read<'_>) -> Result<T, SampleError>,
    ) -> Result<T, Skipped> {
        let guarded = |read: Read<'_>| {
            catch_unwind(AssertUnwindSafe(|| work(read))).unwrap_or_else(|_| {
                Err(SampleError::new(
                    SkipCause::CorruptImage,
                    "the decoder panicked",
                ))
            })
        };
        match (self, item) {
            (Self::Indexed(source), Item::Index(index)) => {
                guarded(Box::new(|| source.read(index, epoch)))
                    .map_err(|fault| fault.at(epoch, source.locate(index, epoch)))
            }
            (Self::Stream(shards), Item::StreamSample(shard, streamed)) => {
                let StreamSample { key, sample, .. } = streamed;
                guarded(Box::new(move || sample))
                    .map_err(|fault| fault.at(epoch, (shards.name(shard), key)))
            }
            _ => unreachable!("an item of another kind of set"),
        }
    }

    /// Every usable sample, in the set's order.
    #[cfg(test)]
    pub(crate) fn read_all(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let all: Result<(), std::convert::Infallible> = self.for_each_chunk(
            8,
            |read| read(),
            |read| {
                samples.extend(read.into_iter().flatten());
                Ok(())
            },
        );
        let Ok(()) = all;
        samples
    }

    /// Works on every sample of the set in its own order, in parallel by `chunk` samples.
    /// - take: gets the outcomes of a chunk in order.
    pub(crate) fn for_each_chunk<T: Send, E>(
        &self,
        chunk: usize,
        work: impl Fn(Read<'_>) -> Result<T, SampleError> + Sync,
        mut take: impl FnMut(Vec<Result<T, Skipped>>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Self::Indexed(source) = self {
            let parts = source.parts();
            for part in &parts {
                let part = Self::Indexed(part.clone());
                part.for_each_item(chunk, &work, &mut take)?;
            }
            if !parts.is_empty() {
                return Ok(());
            }
        }
        self.for_each_item(chunk, &work, &mut take)
    }

    fn for_each_item<T: Send, E>(
        &self,
        chunk: usize,
        work: &(impl Fn(Read<'_>) -> Result<T, SampleError> + Sync),
        take: &mut impl FnMut(Vec<Result<T, Skipped>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut items: Box<dyn Iterator<Item = Item>> = match self {
            Self::Indexed(source) => Box::new((0..source.len()).map(Item::Index)),
            Self::Stream(shards) => {
                let mut walk = Walk::new(shards.clone(), ShardOrder::Listed, (0, None), None);
                let samples = std::iter::from_fn(move || walk.next());
                Box::new(samples.map(|(shard, streamed)| Item::StreamSample(shard, streamed)))
            }
        };
        loop {
            let some: Vec<Item> = items.by_ref().take(chunk).collect();
            if some.is_empty() {
                return Ok(());
            }
            let outcomes = some.into_par_iter().map(|item| self.attempt(item, 0, work));
            take(outcomes.collect())?;
        }
    }
}
