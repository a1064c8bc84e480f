//! What resuming a loader needs.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::stream::StreamState;

/// A position between two batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SavedState")]
pub struct LoaderState {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Batches of this epoch before the position.
    pub batches: usize,
    /// The positions of the parts of a batch, in order. Empty where a run begins, with any number.
    pub parts: Vec<PartState>,
}

/// The position of one part of a batch in its own order of samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartState {
    /// Samples of the part's order in this epoch before the position, including skipped ones.
    pub samples: usize,
    /// How many of those were skipped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: usize,
    /// Estimated number of samples lost to damaged shards, in addition to those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: usize,
    /// For a stream: where to find its next sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamState>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl LoaderState {
    /// The start of an epoch.
    /// - parts: the number of parts of a batch.
    pub fn start_of(epoch: u64, parts: usize) -> Self {
        Self {
            epoch,
            batches: 0,
            parts: vec![PartState::default(); parts],
        }
    }

    /// Samples of this epoch before the position, of all parts, including skipped ones.
    pub fn samples(&self) -> usize {
        self.sum(|part| part.samples)
    }

    /// How many of those were skipped.
    pub fn skipped(&self) -> usize {
        self.sum(|part| part.skipped)
    }

    /// Estimated number of samples of this epoch that were lost to damaged shards, in addition.
    pub fn lost(&self) -> usize {
        self.sum(|part| part.lost)
    }

    fn sum(&self, count: impl Fn(&PartState) -> usize) -> usize {
        // A file may hold any numbers.
        (self.parts.iter().map(count)).fold(0, usize::saturating_add)
    }

    /// The position of some neighbouring parts: what a rank continues from.
    ///
    /// # Panics
    /// If the position has parts, but not these.
    #[must_use]
    pub fn split(&self, parts: Range<usize>) -> Self {
        let own = if self.parts.is_empty() {
            Vec::new()
        } else {
            self.parts[parts].to_vec()
        };
        Self {
            parts: own,
            ..*self
        }
    }

    /// The position of all parts, from those of ranks in order; `None` if they are not at the same batch.
    pub fn merge(ranks: Vec<Self>) -> Option<Self> {
        let mut ranks = ranks.into_iter();
        let mut all = ranks.next()?;
        for rank in ranks {
            if (rank.epoch, rank.batches) != (all.epoch, all.batches) {
                return None;
            }
            all.parts.extend(rank.parts);
        }
        Some(all)
    }
}

/// A position as files have it. Earlier versions had one part, whose fields were the position's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedState {
    epoch: u64,
    batches: usize,
    parts: Option<Vec<PartState>>,
    samples: Option<usize>,
    skipped: Option<usize>,
    #[serde(default)]
    lost: usize,
    stream: Option<StreamState>,
}

impl TryFrom<SavedState> for LoaderState {
    type Error = &'static str;

    fn try_from(saved: SavedState) -> Result<Self, Self::Error> {
        let SavedState {
            epoch,
            batches,
            parts,
            samples,
            skipped,
            lost,
            stream,
        } = saved;
        let parts = match (parts, samples, skipped) {
            (Some(parts), None, None) if lost == 0 && stream.is_none() => parts,
            (None, Some(samples), Some(skipped)) => vec![PartState {
                samples,
                skipped,
                lost,
                stream,
            }],
            _ => return Err("a position has `parts`, or `samples` and `skipped`"),
        };
        Ok(Self {
            epoch,
            batches,
            parts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_of_earlier_versions_has_one_part() {
        let earlier = r#"{"epoch": 3, "batches": 2, "samples": 17, "skipped": 1, "lost": 4,
            "stream": {"place": 16, "pass": 1, "begun": 2, "turn": 1, "lanes": [{"shard": 5, "from": 3}]}}"#;
        let state: LoaderState = serde_json::from_str(earlier).unwrap();
        let part = &state.parts[0];
        assert_eq!((state.epoch, state.batches, state.parts.len()), (3, 2, 1));
        assert_eq!((part.samples, part.skipped, part.lost), (17, 1, 4));
        assert_eq!(part.stream.as_ref().unwrap().lanes[0].shard, 5);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<LoaderState>(&text).unwrap(), state);
        let early = r#"{"epoch": 3, "batches": 2, "samples": 17, "skipped": 1}"#;
        assert_eq!(
            serde_json::from_str::<LoaderState>(early).unwrap().lost(),
            0
        );
    }

    #[test]
    fn a_position_without_its_samples_is_refused() {
        for text in [
            r#"{"epoch": 3, "batches": 2}"#,
            r#"{"epoch": 3, "batches": 2, "samples": 4}"#,
            r#"{"epoch": 3, "batches": 2, "parts": [], "samples": 4, "skipped": 0}"#,
            r#"{"epoch": 3, "batches": 2, "parts": [], "lost": 4}"#,
            r#"{"epoch": 3, "batches": 2, "parts": [{"samples": 4, "other": 1}]}"#,
        ] {
            serde_json::from_str::<LoaderState>(text).unwrap_err();
        }
    }

    #[test]
    fn positions_of_ranks_are_split_and_merged_in_order() {
        let mut whole = LoaderState::start_of(2, 6);
        whole.batches = 3;
        for (at, part) in whole.parts.iter_mut().enumerate() {
            (part.samples, part.skipped) = (10 + at, at);
        }
        assert_eq!((whole.samples(), whole.skipped()), (75, 15));
        for ranks in [1, 2, 3, 6] {
            let each = 6 / ranks;
            let split: Vec<_> = (0..ranks)
                .map(|rank| whole.split(rank * each..(rank + 1) * each))
                .collect();
            assert!(split.iter().all(|own| own.parts.len() == each));
            assert_eq!(LoaderState::merge(split), Some(whole.clone()));
        }
        let other = LoaderState::start_of(2, 1);
        assert_eq!(LoaderState::merge(vec![whole, other]), None);
        assert_eq!(LoaderState::merge(Vec::new()), None);
        assert!(LoaderState::default().split(2..4).parts.is_empty());
    }

    #[test]
    fn a_position_without_bad_samples_is_short() {
        let text = serde_json::to_string(&LoaderState::start_of(1, 2)).unwrap();
        assert_eq!(
            text,
            r#"{"epoch":1,"batches":0,"parts":[{"samples":0},{"samples":0}]}"#
        );
    }
}
