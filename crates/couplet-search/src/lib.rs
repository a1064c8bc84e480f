//! An index of images: the features that a model gives them, written once, and exact search in them.
//!
//! An index is a folder. `features.npy` has the L2-normalized features, `[rows, embed_dim]` in f32, which NumPy maps into
//! memory as this crate does; `rows.jsonl` has a line for each row, with the image's file, key and captions;
//! `rows.offsets` has where each line begins; `skipped.jsonl` lists the images that could not be used; `index.json` says which
//! model and which images it is of, and how far it is.

mod error;
mod files;
mod index;
mod manifest;
mod mapped;
mod scan;
mod writer;

pub use error::IndexError;
pub use files::Row;
pub use index::{Hit, Index};
pub use manifest::{Manifest, ModelMark};
pub use writer::{Built, Progress, build, npy_header};
