//! Images for evaluation with their targets: a class, several classes, or captions.

mod any_images;
mod binary;
mod class_folder;
mod coco;
mod compositional;
mod csv;
mod dataset;
mod detect;
mod folder;
mod parquet;
mod shapes;
mod shards;
mod webdataset;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::formats::{DataError, Patterns};
use crate::paths::{NotThere, PathBase, PathKind};

pub use binary::{CifarConfig, IdxConfig};
pub use class_folder::LabelledClassFolderConfig;
pub use coco::CocoCaptionsConfig;
pub use compositional::{
    CompositionalExample, CompositionalKind, CompositionalOptions, CompositionalSet,
};
pub use csv::LabelledCsvConfig;
pub use dataset::{LabelledBatch, LabelledDataset, Split, Targets, prepare};
pub use folder::LabelledFolderConfig;
pub use parquet::LabelledParquetConfig;
pub use shapes::LabelledShapesConfig;
pub use shards::LabelledShardsConfig;
pub use webdataset::LabelledWebdatasetConfig;

/// How labelled images are stored: the keys of a dataset file that describe its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum LabelledConfig {
    /// Images of colored shapes, drawn by Couplet.
    Shapes(LabelledShapesConfig),
    /// A folder with one subfolder per class.
    ClassFolder(LabelledClassFolderConfig),
    /// CLIP_benchmark's folder of tar shards.
    Webdataset(LabelledWebdatasetConfig),
    /// Images with captions next to them.
    Folder(LabelledFolderConfig),
    /// Tar shards of images and captions.
    Shards(LabelledShardsConfig),
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

/// A key of a dataset file that names files.
enum PathField<'a> {
    Path(&'a mut PathBuf),
    Patterns(&'a mut Patterns),
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
            Self::Folder(table) => table.open(split),
            Self::Shards(table) => table.open(split),
            Self::Cifar(table) => table.open(split),
            Self::Idx(table) => table.open(split),
            Self::Parquet(table) => table.open(split),
            Self::Csv(table) => table.open(split),
            Self::CocoCaptions(table) => table.open(split),
        }
    }

    /// Looks for the files that the config names, and replaces their paths by those that are found.
    /// - returns the key, the split and the places of what is not there.
    pub fn find_files(&mut self, base: &PathBase) -> Vec<(&'static str, Split, NotThere)> {
        let mut missing = Vec::new();
        for (key, split, field) in self.paths_mut() {
            let mut find = |path: &mut String| match base.find(key, path, PathKind::Data) {
                Ok(found) => *path = found,
                Err(error) => {
                    *path = (base.first_place(path, PathKind::Data).display()).to_string();
                    missing.push((key, split, error));
                }
            };
            match field {
                PathField::Path(path) => {
                    let mut text = path.display().to_string();
                    find(&mut text);
                    *path = text.into();
                }
                PathField::Patterns(patterns) => patterns.each_mut().iter_mut().for_each(find),
            }
        }
        missing
    }

    /// Whether the images have captions instead of classes.
    pub fn has_captions(&self) -> bool {
        match self {
            Self::CocoCaptions(_) | Self::Folder(_) | Self::Shards(_) => true,
            Self::Csv(table) => table.caption_column.is_some(),
            Self::Parquet(table) => table.caption_column.is_some(),
            Self::Shapes(_)
            | Self::ClassFolder(_)
            | Self::Webdataset(_)
            | Self::Cifar(_)
            | Self::Idx(_) => false,
        }
    }

    /// The file or folder of the test images, or the first pattern of theirs.
    pub fn first_path(&self) -> Option<PathBuf> {
        let mut config = self.clone();
        let (_, _, first) = config.paths_mut().into_iter().next()?;
        Some(match first {
            PathField::Path(path) => path.clone(),
            PathField::Patterns(patterns) => patterns.each_mut().first()?.into(),
        })
    }

    /// Each path with its key and the split that needs it.
    fn paths_mut(&mut self) -> Vec<(&'static str, Split, PathField<'_>)> {
        use PathField::{Path, Patterns};
        use Split::{Test, Train};
        match self {
            Self::Shapes(_) => Vec::new(),
            Self::ClassFolder(table) => {
                let train = table.train_path.as_mut();
                let train = train.map(|path| ("train_path", Train, Path(path)));
                let test = ("path", Test, Path(&mut table.path));
                [test].into_iter().chain(train).collect()
            }
            Self::Webdataset(table) => vec![("path", Test, Path(&mut table.path))],
            Self::Cifar(table) => vec![("path", Test, Path(&mut table.path))],
            Self::Idx(table) => vec![("path", Test, Path(&mut table.path))],
            Self::Folder(table) => {
                let train = table.train_path.as_mut();
                let train = train.map(|path| ("train_path", Train, Path(path)));
                let test = ("path", Test, Path(&mut table.path));
                [test].into_iter().chain(train).collect()
            }
            Self::Shards(table) => {
                let train = table.train_shards.as_mut();
                let train = train.map(|files| ("train_shards", Train, Patterns(files)));
                let test = ("shards", Test, Patterns(&mut table.shards));
                [test].into_iter().chain(train).collect()
            }
            Self::Parquet(table) => {
                let train = table.train_files.as_mut();
                let train = train.map(|files| ("train_files", Train, Patterns(files)));
                let root = table.root.as_mut().map(|root| ("root", Test, Path(root)));
                let test = ("files", Test, Patterns(&mut table.files));
                [test].into_iter().chain(train).chain(root).collect()
            }
            Self::Csv(table) => {
                let train = table.train_path.as_mut();
                let train = train.map(|path| ("train_path", Train, Path(path)));
                let root = table.root.as_mut().map(|root| ("root", Test, Path(root)));
                let test = ("path", Test, Path(&mut table.path));
                [test].into_iter().chain(train).chain(root).collect()
            }
            Self::CocoCaptions(table) => vec![
                ("annotations", Test, Path(&mut table.annotations)),
                ("images", Test, Path(&mut table.images)),
            ],
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
            Self::Folder(table) => Some(&table.path),
            Self::Shapes(_) | Self::Parquet(_) | Self::CocoCaptions(_) | Self::Shards(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
