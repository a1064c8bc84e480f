//! Confusion matrices, and their pictures.

mod formats;
mod glyphs;
mod matrix;
mod picture;

pub use matrix::{ClassResult, ConfusionMatrix};
