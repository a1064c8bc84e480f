//! Image-text pairs for training. A map-style dataset is indexed when it is opened, so that samples can
//! be read individually in a true permutation; a sharded dataset is streamed.

pub(crate) mod captions;
mod class_folder;
mod config;
mod csv;
mod custom;
mod dataset;
mod folder;
mod labelled;
mod mix;
mod parquet;
mod shapes;
mod webdataset;

pub use class_folder::ClassFolderConfig;
pub use config::{DatasetImagesConfig, MixConfig, MixEntry, SourceConfig};
pub use csv::CsvConfig;
pub use custom::CustomConfig;
pub(crate) use dataset::{Item, Read};
pub use dataset::{MapDataset, PairDataset, Picked};
pub use folder::FolderConfig;
pub use labelled::labelled_pairs;
pub use parquet::ParquetConfig;
pub use shapes::ShapesConfig;
pub use webdataset::{WebdatasetConfig, index_shards};
