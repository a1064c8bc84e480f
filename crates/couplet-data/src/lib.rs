//! Image-text data from storage to batches: sources, decoding, transforms, the CLIP
//! tokenizer and a loader whose order is a pure function of (seed, epoch).
//!
//! Only [`batch`] knows Burn; everything before it works on plain host memory.

pub mod batch;
mod brace;
mod decode;
mod draw;
pub mod labelled;
pub mod loader;
pub mod order;
mod sample;
pub mod shapes;
pub mod source;
mod tokenizer;
mod transform;

pub use decode::{DEFAULT_MAX_IMAGE_PIXELS, decode};
pub use sample::{Picture, Sample, SkipCause, Skipped};
pub use tokenizer::Tokenizer;
pub use transform::{Augment, RandomResizedCrop, Transform, TransformError};
