//! Indexed datasets.

use std::sync::Arc;

use super::{Case, PARTS, sample};
use crate::loader::{Loader, LoaderState, check_skipped};
use crate::order::Order;
use crate::sample::{Sample, SampleError, SkipCause};
use crate::source::{MapDataset, PairDataset};

/// Samples by their index; some are bad.
struct Levels {
    len: usize,
    is_bad: fn(usize) -> bool,
}

impl MapDataset for Levels {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        if (self.is_bad)(index) {
            return Err(SampleError::new(SkipCause::CorruptImage, "bad"));
        }
        Ok(sample(index))
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("levels".into(), index.to_string())
    }

    fn listing(&self) -> Vec<crate::ListedFile> {
        Vec::new()
    }
}

fn indexed(len: usize, is_bad: fn(usize) -> bool) -> PairDataset {
    PairDataset::Indexed(Arc::new(Levels { len, is_bad }))
}

#[test]
fn ranks_share_the_batches_of_an_indexed_dataset() {
    for (epoch_len, batch_size, resample) in [
        (200, 16, false),
        (200, 16, true),
        (90, 24, false),
        (333, 8, false),
        (200, 40, false),
    ] {
        let case = Case {
            dataset: indexed(200, |index| index % 7 == 3),
            len: 200,
            epoch_len,
            batch_size,
            resample,
        };
        case.check(&format!("{epoch_len} samples in batches of {batch_size}"));
    }
}

#[test]
fn a_large_batch_is_the_same_for_every_number_of_ranks() {
    // Parts of more rows than are filled at once, and of a number that cuts chunks of images.
    for rows in [150, 96] {
        let batch_size = rows * PARTS;
        let case = Case {
            dataset: indexed(3000, |index| index % 5 == 0),
            len: 3000,
            epoch_len: 3000,
            batch_size,
            resample: false,
        };
        let one = case.take(1, &LoaderState::default(), 2);
        for ranks in [2, 8] {
            assert_eq!(case.take(ranks, &LoaderState::default(), 2), one);
        }
    }
}

#[test]
fn without_bad_samples_batches_do_not_depend_on_the_number_of_parts() {
    let case = Case {
        dataset: indexed(200, |_| false),
        len: 200,
        epoch_len: 90,
        batch_size: 16,
        resample: false,
    };
    let parts = case.take(1, &LoaderState::default(), 9);
    let order = Order {
        len: 200,
        epoch_len: 90,
        resample: false,
        seed: 5,
    };
    for (at, batch) in parts.iter().enumerate() {
        let epoch = order.epoch(at as u64 / 5);
        let first = at % 5 * 16;
        let wanted: Vec<_> = epoch[first..first + 16]
            .iter()
            .map(|index| index % 10)
            .collect();
        let labels = batch.labels.iter();
        assert!(
            labels
                .map(|label| usize::try_from(*label).unwrap())
                .eq(wanted)
        );
    }
}

#[test]
fn an_epoch_of_one_batch_replaces_bad_samples_by_those_of_other_parts() {
    let case = Case {
        dataset: indexed(8, |index| index == 3),
        len: 8,
        epoch_len: 8,
        batch_size: 8,
        resample: false,
    };
    let batches = case.check("one batch");
    assert!(batches.iter().all(|batch| batch.skipped == ["levels 3"]));
}

#[test]
fn bad_samples_count_once_an_epoch_for_all_parts_together() {
    let case = Case {
        dataset: indexed(64, |index| index < 40),
        len: 64,
        epoch_len: 64,
        batch_size: 16,
        resample: false,
    };
    let batches = case.check("many bad samples");
    for epoch in batches[..8].chunks(4) {
        let skipped: usize = epoch.iter().map(|batch| batch.skipped.len()).sum();
        assert!((30..=40).contains(&skipped), "{skipped}");
        let last = &epoch[2].next;
        assert!(last.skipped() <= 40 && last.samples() > 48);
    }
}

#[test]
fn too_few_usable_samples_are_an_error_for_every_number_of_ranks() {
    let case = Case {
        dataset: indexed(64, |_| true),
        len: 64,
        epoch_len: 64,
        batch_size: 16,
        resample: false,
    };
    let options_allow = |loader: &Loader| loader.next_batch().unwrap_err().to_string();
    let error = options_allow(&case.start(0..8, LoaderState::default()));
    assert!(error.contains("were skipped in epoch 1"), "{error}");
    let error = options_allow(&case.start(0..2, LoaderState::default()));
    assert!(error.contains("fewer usable samples"), "{error}");
}

#[test]
fn the_skipped_samples_of_all_ranks_together_end_a_run() {
    assert!(check_skipped(2, 100, (10, 0), 0.1).is_none());
    let error = check_skipped(2, 100, (11, 0), 0.1).unwrap().to_string();
    assert!(
        error.starts_with("11 of 100 samples were skipped in epoch 3, more than"),
        "{error}"
    );
    let error = check_skipped(0, 100, (10, 20), 0.1).unwrap().to_string();
    assert!(error.starts_with("about 30 of 120 samples"), "{error}");
}
