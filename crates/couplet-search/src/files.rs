//! The files of an index.

use serde::{Deserialize, Serialize};

pub(crate) const FEATURES_FILE: &str = "features.npy";
pub(crate) const ROWS_FILE: &str = "rows.jsonl";
pub(crate) const OFFSETS_FILE: &str = "rows.offsets";
pub(crate) const SKIPPED_FILE: &str = "skipped.jsonl";
pub(crate) const LOCK_FILE: &str = ".lock";
/// Bytes before the features, which is what NumPy's header takes.
pub const HEADER: usize = 128;

/// The image of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its place among all images that were found.
    pub image: usize,
    /// The file that holds the image, and the image's key in it.
    pub file: String,
    pub key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<String>,
}
