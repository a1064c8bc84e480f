//! Image-text data from storage to batches: datasets, decoding, transforms, tokenizers, and a
//! loader whose order is a pure function of (seed, epoch).
//!
//! ```
//! use couplet_data::source::{MapDataset, PairDataset, ShapesConfig, SourceConfig};
//!
//! let source = SourceConfig::Shapes(ShapesConfig { samples: 4 });
//! let PairDataset::Indexed(pairs) = source.open(0, 64)? else {
//!     unreachable!("shapes are drawn by index");
//! };
//! assert_eq!(pairs.len(), 4);
//! let sample = pairs.read(0, 0)?; // in epoch 0
//! println!("{}", sample.caption);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Only [`batch`] depends on Burn; everything else works on plain host memory.

mod augment;
pub mod batch;
mod decode;
pub mod detect;
mod draw;
mod error;
mod fingerprint;
pub mod formats;
pub mod labelled;
mod listing;
pub mod loader;
pub mod order;
mod pack;
mod panics;
pub mod paths;
mod read_ahead;
mod resample;
mod sample;
pub mod shapes;
pub mod source;
mod stages;
pub mod stream;
mod survey;
mod tokenizer;
mod transform;

pub use augment::{Augment, ColorJitter, RandomErasing, RandomResizedCrop};
pub use decode::{DEFAULT_MAX_IMAGE_PIXELS, IMAGE_EXTENSIONS, decode, is_image_name};
pub use error::{LastCause, printable, printable_path, printable_text, with_causes};
pub use fingerprint::Fingerprint;
// What `ImageData::Pixels` holds.
pub use image::RgbImage;
pub use listing::{DataListing, ListedFile, ListingChange};
pub use pack::{PackError, PackFormat, PackOptions, Packed, pack};
pub use resample::Interpolation;
pub use sample::{ImageData, Sample, SampleError, SkipCause, Skipped};
pub use stages::{Stage, StageClock, StageTimes};
pub use survey::DatasetStats;
pub use tokenizer::{
    Clean, EncodeError, FileOptions, Tokenizer, TokenizerError, TrainOptions,
    train as train_tokenizer,
};
pub use transform::{CropRounding, ResizeMode, Transform};
