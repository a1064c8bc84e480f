//! Tar shards in which the members of a sample share a key.

mod indexed;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::indexed::TarPairs;
use self::stream::{StreamSettings, TarShards};
use super::captions::CaptionRule;
use super::dataset::PairDataset;
use crate::formats::storage::{Location, is_url};
use crate::formats::tar::index::ShardIndex;
use crate::formats::tar::records::TarRecords;
use crate::formats::{Damage, DataError, Patterns};
use crate::stream::DEFAULT_SHUFFLE_BUFFER;

/// `source = "webdataset"`: tar shards of images and captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebdatasetConfig {
    /// Tar files, or their addresses in object stores (`s3://`, `gs://`, `az://`, `https://`).
    /// `{0000..0003}`, `{a,b}`, `*` and `?` are expanded. Shards compressed with gzip, bzip2 or zstd
    /// need `stream = true`.
    #[schemars(extend("examples" = ["data/{0000..0099}.tar"]))]
    pub shards: Patterns,
    /// Reads whole shards from front to back and shuffles in a buffer, instead of indexing them
    /// and reading samples at random. By default only if a shard is in an object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Number of streamed samples that are shuffled together; twice as many are in memory.
    #[serde(default = "default_shuffle_buffer")]
    #[schemars(range(min = 1))]
    pub shuffle_buffer: usize,
    /// Time without any data from a server before a shard is given up, in seconds.
    #[serde(default = "default_server_timeout")]
    #[schemars(range(min = 1))]
    pub server_timeout: u64,
    /// Key of the sample's `.json` that holds the caption, instead of a `.txt` file. Of a list,
    /// one caption is drawn in each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_key: Option<String>,
    /// Treats every line of the `.txt` as a caption; one is drawn in each epoch.
    #[serde(default)]
    pub one_of_lines: bool,
}

fn default_shuffle_buffer() -> usize {
    DEFAULT_SHUFFLE_BUFFER
}

fn default_server_timeout() -> u64 {
    120
}

impl WebdatasetConfig {
    /// Shards with `.txt` captions.
    pub fn new(shards: Patterns) -> Self {
        Self {
            shards,
            stream: None,
            shuffle_buffer: default_shuffle_buffer(),
            server_timeout: default_server_timeout(),
            caption_key: None,
            one_of_lines: false,
        }
    }

    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = self.shards.location_problems("shards");
        if self.shuffle_buffer == 0 {
            problems.push(("shuffle_buffer", "must be at least 1".into()));
        }
        if self.server_timeout == 0 {
            problems.push(("server_timeout", "must be at least 1 second".into()));
        }
        problems
    }

    /// - seed: seed of choosing among several captions.
    pub(super) fn open(&self, seed: u64) -> Result<PairDataset, DataError> {
        let locations = self.shards.locations();
        let locations = locations.map_err(|message| DataError::key("shards", message))?;
        let captions = CaptionRule {
            key: self.caption_key.clone(),
            one_of_lines: self.one_of_lines,
            seed,
        };
        let path = |location: &Location| match location {
            Location::File(path) => Some(path.clone()),
            Location::Url(_) => None,
        };
        let paths: Option<Vec<PathBuf>> = locations.iter().map(path).collect();
        let stream = self.stream.unwrap_or(paths.is_none());
        match paths {
            Some(paths) if !stream => Ok(PairDataset::indexed(TarPairs::open(paths, captions)?)),
            None if !stream => Err(DataError::key(
                "stream",
                "shards in an object store can only be streamed: remove the key or copy the shards \
                 to a disk",
            )),
            paths => {
                let samples = paths.and_then(|paths| count_indexed(&paths, &captions));
                let settings = StreamSettings {
                    shuffle_buffer: self.shuffle_buffer,
                    server_timeout: Duration::from_secs(self.server_timeout),
                };
                let shards = TarShards::open(locations, captions, settings, samples)?;
                Ok(PairDataset::Stream(std::sync::Arc::new(shards)))
            }
        }
    }
}

/// The number of samples of shards that all have an index next to them.
fn count_indexed(paths: &[PathBuf], captions: &CaptionRule) -> Option<usize> {
    let counts = paths.par_iter().map(|path| {
        let shard = TarRecords::saved(path, captions.extension())?;
        Some(shard.records.len() + shard.damage.len())
    });
    counts.sum()
}

/// Reads the headers of shards and writes an index next to each, so that runs do not need to read
/// them again.
/// - patterns: as for the `shards` key.
/// - progress: called with each shard, its number of files, and its damage.
///
/// # Errors
/// If a pattern matches no file, or a file cannot be read or written.
pub fn index_shards(
    patterns: &[String],
    mut progress: impl FnMut(&Path, usize, &[Damage]),
) -> Result<(), DataError> {
    if let Some(url) = patterns.iter().find(|pattern| is_url(pattern)) {
        let message = "only shards on a disk have an index; those in an object store are streamed, \
                       which needs none";
        return Err(DataError::url(url, message));
    }
    let shards = Patterns::Several(patterns.to_vec());
    if let Some((key, message)) = shards.problems("shards").into_iter().next() {
        return Err(DataError::key(key, message));
    }
    for path in shards.paths().unwrap_or_default() {
        let index = ShardIndex::write(&path).map_err(DataError::io(&path))?;
        progress(&path, index.members.len(), &index.damage);
    }
    Ok(())
}
