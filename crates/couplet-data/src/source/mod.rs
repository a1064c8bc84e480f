//! Where image-text pairs come from. Every source is indexed at the start, so that its
//! order can be a true permutation and a sample can be read on its own.

mod captions;
mod csv;
mod files;
mod folder;
mod mix;
mod parquet;
mod webdataset;

pub use csv::CsvTable;
pub use files::Patterns;
pub use folder::{ClassCaptionsTable, FolderTable};
pub use mix::{MixEntry, MixTable};
pub use parquet::ParquetTable;
pub use webdataset::{WebdatasetTable, index_shards};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sample::{Fault, Sample, SkipCause, Skipped};
use crate::shapes::{ShapesSource, ShapesTable};

/// A set of image-text pairs that can be read in any order, from any thread.
pub trait Source: Send + Sync {
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
    fn read(&self, index: usize, epoch: u64) -> Result<Sample, Fault>;

    /// The file that holds the sample that [`Self::read`] gives, and its key inside it.
    fn locate(&self, index: usize, epoch: u64) -> (String, String);
}

/// The source's part of `[data.train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum SourceTable {
    /// Pictures of coloured shapes, drawn by Couplet itself.
    Shapes(ShapesTable),
    /// Tar files of images with captions beside them.
    Webdataset(WebdatasetTable),
    /// A table that names image files and their captions.
    Csv(CsvTable),
    /// Tables with images or their paths in one column, captions in another. Needs the
    /// feature `parquet`.
    Parquet(ParquetTable),
    /// Images with a text file beside each.
    Folder(FolderTable),
    /// Images in one sub-folder a class, captions from templates.
    ClassFolder(ClassCaptionsTable),
    /// Several of these, each with its share.
    Mix(MixTable),
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct SourceError {
    pub path: PathBuf,
    pub message: String,
}

impl SourceTable {
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
        }
    }

    /// Opens and indexes the set.
    /// - seed: what pictures, or one of several captions, are drawn from.
    /// - image_size: side of the pictures that are drawn, in pixels.
    ///
    /// # Errors
    /// If a file is missing or not of the kind it should be. Single bad samples are no
    /// errors here: [`Source::read`] reports them.
    pub fn open(&self, seed: u64, image_size: u32) -> Result<Box<dyn Source>, SourceError> {
        Ok(match self {
            Self::Shapes(table) => Box::new(ShapesSource::train(table, seed, image_size)),
            Self::Webdataset(table) => Box::new(webdataset::WebdatasetSource::open(table, seed)?),
            Self::Csv(table) => Box::new(csv::CsvSource::open(table)?),
            Self::Parquet(table) => table.open(seed)?,
            Self::Folder(table) => Box::new(folder::FolderSource::open(table, seed)?),
            Self::ClassFolder(table) => Box::new(folder::ClassFolderSource::open(table, seed)?),
            Self::Mix(table) => Box::new(mix::MixSource::open(table, seed, image_size)?),
        })
    }
}

/// Does what one sample needs. A fault, or a decoder that panics on damaged bytes, costs
/// the sample and not the run.
pub(crate) fn attempt<T>(
    source: &dyn Source,
    index: usize,
    epoch: u64,
    work: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Skipped> {
    let outcome = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Fault::new(SkipCause::CorruptImage, "the decoder panicked")));
    outcome.map_err(|fault| {
        let (shard, key) = source.locate(index, epoch);
        Skipped {
            epoch,
            shard,
            key,
            cause: fault.cause,
            detail: fault.detail,
        }
    })
}
