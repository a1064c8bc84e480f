//! Finds out how the image-text pairs at a path are stored.
//!
//! Names only suggest an answer: a source counts if samples of it can be read.

mod captions;
mod folder;
mod table;
mod trial;

use std::path::Path;

use crate::formats::{DataError, Patterns};
use crate::source::{ParquetConfig, SourceConfig, WebdatasetConfig};

pub use self::trial::Trial;

/// What was found at a path.
#[derive(Debug)]
pub struct Detected {
    /// The training pairs.
    pub source: SourceConfig,
    /// What they are, for people: `images with a .txt next to each`.
    pub kind: String,
    /// Samples that were read to find out.
    pub trial: Trial,
    /// The validation split, if there is one of the same kind.
    pub val: Option<SourceConfig>,
    /// A folder of classes with the test images, if the data are classes.
    pub test_classes: Option<std::path::PathBuf>,
    /// What was found beside and is not used.
    pub notes: Vec<String>,
}

/// A split's source and what it is, before samples are read.
pub(crate) struct Candidate {
    pub source: SourceConfig,
    pub kind: String,
}

const SHARD_ENDS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst"];
const TABLE_ENDS: [&str; 2] = [".csv", ".tsv"];
const PARQUET_ENDS: [&str; 2] = [".parquet", ".pq"];

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

fn has_end(path: &str, ends: &[&str]) -> bool {
    let path = path.to_ascii_lowercase();
    ends.iter().any(|end| path.ends_with(end))
}

impl Detected {
    /// Reads samples of a candidate.
    /// - place: what the error names.
    fn of(candidate: Candidate, place: &Path) -> Result<Self, DataError> {
        let trial = Trial::run(&candidate.source)?;
        if trial.read == 0 {
            let problem = trial.problem.as_deref().unwrap_or("there are no samples");
            let message = format!("{}, but none can be read: {problem}", candidate.kind);
            return Err(DataError::invalid(place, message));
        }
        Ok(Self {
            source: candidate.source,
            kind: candidate.kind,
            trial,
            val: None,
            test_classes: None,
            notes: Vec::new(),
        })
    }
}

/// Tar shards, with their captions' place.
fn shards(shards: Patterns) -> Result<Candidate, DataError> {
    let paths = (shards.paths()).map_err(|message| DataError::key("shards", message))?;
    let Some(first) = paths.first() else {
        return Err(DataError::key("shards", "no file matches"));
    };
    let is_packed = !has_end(&first.to_string_lossy(), &[".tar"]);
    let caption_key = captions::key_in_shard(first)?;
    let kind = match &caption_key {
        Some(key) => format!("tar shards with captions under `{key}` of .json files"),
        None => "tar shards with .txt captions".to_string(),
    };
    let source = SourceConfig::Webdataset(WebdatasetConfig {
        stream: is_packed.then_some(true),
        caption_key,
        ..WebdatasetConfig::new(shards)
    });
    Ok(Candidate { source, kind })
}

/// Parquet files, with their columns.
fn parquet(files: Patterns) -> Result<Candidate, DataError> {
    let paths = (files.paths()).map_err(|message| DataError::key("files", message))?;
    let Some(first) = paths.first() else {
        return Err(DataError::key("files", "no file matches"));
    };
    let [image, caption] = table::parquet_columns(first)?;
    let kind = format!("Parquet files with images in `{image}` and captions in `{caption}`");
    let source = SourceConfig::Parquet(ParquetConfig {
        image_column: image,
        caption_column: caption,
        ..ParquetConfig::new(files)
    });
    Ok(Candidate { source, kind })
}

#[cfg(test)]
mod tests;
