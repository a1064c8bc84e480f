//! `skipped.jsonl`: the samples that could not be used, by cause and shard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::file::{ReadError, text_of};

/// Entries that a page shows as they are.
const MOST_EXAMPLES: usize = 50;

/// Shards that it lists.
const MOST_SHARDS: usize = 100;

#[derive(Debug, Default, Serialize)]
pub(super) struct Skips {
    pub samples: u64,
    /// The lines, and at how many different places of the data they are: each epoch meets these again.
    pub lines: usize,
    pub places: usize,
    pub causes: Vec<Count>,
    /// Those with the most first.
    pub shards: Vec<Count>,
    /// Shards that are not listed.
    pub more_shards: usize,
    /// The first of each cause before more of one.
    pub examples: Vec<Value>,
}

#[derive(Debug, Serialize)]
pub(super) struct Count {
    pub name: String,
    pub samples: u64,
}

impl Skips {
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = text_of(path)?;
        let mut skips = Self::default();
        let (mut causes, mut shards) = (BTreeMap::new(), BTreeMap::new());
        let mut places = BTreeSet::new();
        let mut examples: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
            let (cause, shard) = (text("cause"), text("shard"));
            places.insert((shard.clone(), text("key")));
            let samples = line["samples"].as_u64().unwrap_or(1);
            skips.samples += samples;
            skips.lines += 1;
            *causes.entry(cause.clone()).or_insert(0) += samples;
            *shards.entry(shard).or_insert(0) += samples;
            let of_cause = examples.entry(cause).or_default();
            if of_cause.len() < MOST_EXAMPLES {
                of_cause.push(line);
            }
        }
        skips.places = places.len();
        skips.causes = counts(causes);
        skips.shards = counts(shards);
        skips.more_shards = skips.shards.len().saturating_sub(MOST_SHARDS);
        skips.shards.truncate(MOST_SHARDS);
        for round in 0..MOST_EXAMPLES {
            let next = examples.values().filter_map(|of_cause| of_cause.get(round));
            skips.examples.extend(next.cloned());
        }
        skips.examples.truncate(MOST_EXAMPLES);
        Ok(skips)
    }
}

/// The largest first.
fn counts(found: BTreeMap<String, u64>) -> Vec<Count> {
    let counts = found
        .into_iter()
        .map(|(name, samples)| Count { name, samples });
    let mut counts: Vec<Count> = counts.collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.samples));
    counts
}
