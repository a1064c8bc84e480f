//! Finds out how the image-text pairs at a path are stored.
//!
//! Names only suggest an answer: a source counts if samples of it can be read.

mod files;
mod folder;
mod found;
mod table;
mod trial;

use std::path::Path;

use self::files::{PARQUET_ENDS, SHARD_ENDS, TABLE_ENDS, has_end, parquet, shards};
use crate::formats::{DataError, Patterns};

pub use self::found::Detected;
pub use self::trial::Trial;

/// Finds out what the image-text pairs at `path` are: a folder of images with captions or of classes, a
/// table, Parquet files, shards, or a pattern of such files. Folders may have the splits `train`, `val` and
/// `test`.
///
/// # Errors
/// If nothing at the path can be read as pairs, with what was found there.
pub fn detect(path: &str) -> Result<Detected, DataError> {
    let place = Path::new(path);
    if crate::formats::storage::is_url(path) {
        return Err(DataError::invalid(
            place,
            "only files on this machine can be looked at; for an object store, write the config with \
             source = \"webdataset\", shards and samples_per_epoch",
        ));
    }
    if place.is_dir() {
        return folder::detect(place);
    }
    let candidate = if has_end(path, &SHARD_ENDS) {
        shards(Patterns::One(path.to_string()))?
    } else if has_end(path, &PARQUET_ENDS) {
        parquet(Patterns::One(path.to_string()))?
    } else if has_end(path, &TABLE_ENDS) {
        table::candidate(place)?
    } else if place.exists() {
        return Err(DataError::invalid(
            place,
            "neither a folder nor a .csv, .tsv, .parquet or .tar file",
        ));
    } else {
        return Err(DataError::invalid(
            place,
            "no such file or folder; check the path",
        ));
    };
    Detected::of(candidate, place)
}

#[cfg(test)]
mod tests;
