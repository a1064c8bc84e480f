//! File formats: how images, captions and labels are laid out in files.
//!
//! A format yields records: a key, the image's bytes or where to read them, and one named field (a
//! tar member by its extension, a table's cell by its column). Formats know nothing about epochs,
//! about drawing one of several captions, or about labels. Two views build on them:
//! [`crate::source`] (image-text pairs) and [`crate::labelled`] (images with targets).
//!
//! What both views must answer alike is decided here, once: the names of classes
//! ([`class_names`]), how templates are filled ([`templates`]), and how relative image paths are
//! resolved (`image_files`).

mod brace;
pub(crate) mod caption_files;
pub(crate) mod caption_keys;
pub(crate) mod class_folder;
pub mod class_names;
pub(crate) mod coco;
pub(crate) mod column_names;
pub(crate) mod csv;
pub(crate) mod damage;
pub(crate) mod error;
pub mod files;
pub mod hidden;
pub(crate) mod image_files;
pub(crate) mod image_folder;
pub(crate) mod json;
pub(crate) mod lines;
pub mod list_file;
pub(crate) mod npy;
pub(crate) mod packing;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod patterns;
pub(crate) mod pixels;
pub(crate) mod splits;
pub(crate) mod storage;
pub(crate) mod table_layout;
pub(crate) mod tar;
pub mod templates;
pub(crate) mod text;
pub(crate) mod walk;

pub use csv::count_rows;
pub use damage::{Damage, Lost};
pub use error::{DataError, Place};
pub use image_files::read_image;
pub use image_folder::list_images;
pub use lines::read_lines;
pub use patterns::Patterns;
pub use storage::is_url;
