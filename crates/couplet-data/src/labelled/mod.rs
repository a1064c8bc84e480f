//! Images for evaluation with their targets: a class, several classes, or captions.

mod binary;
mod class_folder;
mod coco;
mod csv;
mod dataset;
mod parquet;
mod shapes;
mod webdataset;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::formats::DataError;

pub use binary::{CifarConfig, IdxConfig};
pub use class_folder::LabelledClassFolderConfig;
pub use coco::CocoCaptionsConfig;
pub use csv::LabelledCsvConfig;
pub use dataset::{LabelledBatch, LabelledDataset, Split, Targets, prepare};
pub use parquet::LabelledParquetConfig;
pub use shapes::LabelledShapesConfig;
pub use webdataset::LabelledWebdatasetConfig;

/// How labelled images are stored: the keys of a dataset file that describe its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum LabelledConfig {
    /// Images of colored shapes, drawn by Couplet.
    Shapes(LabelledShapesConfig),
    /// A folder with one subfolder per class.
    ClassFolder(LabelledClassFolderConfig),
    /// CLIP_benchmark's folder of tar shards.
    Webdataset(LabelledWebdatasetConfig),
    /// The binary files of CIFAR-10 and CIFAR-100.
    Cifar(CifarConfig),
    /// The files of MNIST, and of datasets in its format.
    Idx(IdxConfig),
    /// Parquet files with images and labels or captions, as Hugging Face writes them.
    Parquet(LabelledParquetConfig),
    /// A table that names image files and their labels or captions.
    Csv(LabelledCsvConfig),
    /// COCO captions, and datasets in their format.
    CocoCaptions(CocoCaptionsConfig),
}

impl LabelledConfig {
    /// Opens a split of the dataset; images are read later.
    /// - image_size: side of drawn images, in pixels.
    ///
    /// # Errors
    /// If files are missing or invalid, or the config does not name the split.
    pub fn open(&self, split: Split, image_size: u32) -> Result<LabelledDataset, DataError> {
        match self {
            Self::Shapes(table) => Ok(table.open(split, image_size)),
            Self::ClassFolder(table) => table.open(split),
            Self::Webdataset(table) => table.open(split),
            Self::Cifar(table) => table.open(split),
            Self::Idx(table) => table.open(split),
            Self::Parquet(table) => table.open(split),
            Self::Csv(table) => table.open(split),
            Self::CocoCaptions(table) => table.open(split),
        }
    }

    /// The dataset's folder, if it has one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::ClassFolder(table) => Some(&table.path),
            Self::Webdataset(table) => Some(&table.path),
            Self::Cifar(table) => Some(&table.path),
            Self::Idx(table) => Some(&table.path),
            Self::Csv(table) => table.path.parent(),
            Self::Shapes(_) | Self::Parquet(_) | Self::CocoCaptions(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
