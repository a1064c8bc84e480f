//! Damage in a file of many samples, and what it costs.

use serde::{Deserialize, Serialize};

/// What could not be read of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// The member that is damaged, or the byte at which the damage begins.
    pub place: String,
    /// What is wrong.
    pub message: String,
    pub lost: Lost,
}

/// How much of a shard is lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// This share of the shard's bytes, from 0 to 1.
    Part(f64),
    /// Everything that follows.
    Rest,
}

impl Lost {
    #[expect(
        clippy::cast_precision_loss,
        reason = "shards are smaller than 2^53 bytes"
    )]
    pub(crate) fn part(bytes: u64, shard_len: u64) -> Self {
        Self::Part((bytes as f64 / shard_len.max(1) as f64).min(1.0))
    }

    /// How many samples that is, at least one.
    /// - held: samples that the shard is assumed to hold; given: those before the damage.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a small number"
    )]
    pub(crate) fn samples(self, held: usize, given: usize) -> usize {
        let samples = match self {
            Self::Part(part) => (part * held as f64).round() as usize,
            Self::Rest => held.saturating_sub(given),
        };
        samples.max(1)
    }
}
