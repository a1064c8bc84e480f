//! Shards and Parquet files, recognized by their names.

use super::found::Candidate;
use super::table::parquet_columns;
use crate::formats::{DataError, Patterns, caption_keys};
use crate::source::{ParquetConfig, SourceConfig, WebdatasetConfig};

pub(super) const SHARD_ENDS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst"];
pub(super) const TABLE_ENDS: [&str; 2] = [".csv", ".tsv"];
pub(super) const PARQUET_ENDS: [&str; 2] = [".parquet", ".pq"];

pub(super) fn has_end(path: &str, ends: &[&str]) -> bool {
    let path = path.to_ascii_lowercase();
    ends.iter().any(|end| path.ends_with(end))
}

/// Tar shards, with their captions' place.
pub(super) fn shards(shards: Patterns) -> Result<Candidate, DataError> {
    let paths = (shards.paths()).map_err(|message| DataError::key("shards", message))?;
    let Some(first) = paths.first() else {
        return Err(DataError::key("shards", "no file matches"));
    };
    let is_packed = !has_end(&first.to_string_lossy(), &[".tar"]);
    let caption_key = caption_keys::key_in_shard(first)?;
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
pub(super) fn parquet(files: Patterns) -> Result<Candidate, DataError> {
    let paths = (files.paths()).map_err(|message| DataError::key("files", message))?;
    let Some(first) = paths.first() else {
        return Err(DataError::key("files", "no file matches"));
    };
    let [image, caption] = parquet_columns(first)?;
    let kind = format!("Parquet files with images in `{image}` and captions in `{caption}`");
    let source = SourceConfig::Parquet(ParquetConfig {
        image_column: image,
        caption_column: caption,
        ..ParquetConfig::new(files)
    });
    Ok(Candidate { source, kind })
}
