//! Damage in shards, and how many samples are lost to it.

use serde::{Deserialize, Serialize};

/// A part of a shard that cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// The damaged member, or the byte at which the damage begins.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
    pub lost: Lost,
}

/// How much of a shard is lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// A fraction of the shard's bytes, from 0 to 1.
    #[serde(rename = "part")]
    Fraction(f64),
    /// Everything that follows.
    Rest,
}

impl Lost {
    #[expect(
        clippy::cast_precision_loss,
        reason = "shards are smaller than 2^53 bytes"
    )]
    pub(crate) fn part(bytes: u64, shard_len: u64) -> Self {
        Self::Fraction((bytes as f64 / shard_len.max(1) as f64).min(1.0))
    }

    /// The number of samples lost, at least 1.
    /// - held: the number of samples that the shard is assumed to hold.
    /// - given: the number of samples before the damage.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a small number"
    )]
    pub(crate) fn samples(self, held: usize, given: usize) -> usize {
        let samples = match self {
            Self::Fraction(part) => (part * held as f64).round() as usize,
            Self::Rest => held.saturating_sub(given),
        };
        samples.max(1)
    }
}
