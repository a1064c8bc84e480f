use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::order::PartOrder;
use crate::sample::{ImageData, SkipCause};

/// Shards with the given numbers of samples; the samples of the third are bad.
struct Numbers {
    shards: Vec<usize>,
    weights: Vec<f64>,
    /// Whether the number of samples is unknown.
    is_uncounted: bool,
}

impl ShardedDataset for Numbers {
    fn len(&self) -> usize {
        self.shards.len()
    }

    fn samples(&self) -> Option<usize> {
        (!self.is_uncounted).then(|| self.shards.iter().sum())
    }

    fn shuffle_buffer(&self) -> usize {
        16
    }

    fn weight(&self, shard: usize) -> f64 {
        self.weights.get(shard).copied().unwrap_or(1.0)
    }

    fn name(&self, shard: usize) -> String {
        shard.to_string()
    }

    fn listing(&self) -> Vec<crate::ListedFile> {
        Vec::new()
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        _epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        for at in from..self.shards[shard] as u64 {
            assert!(shard != 5, "a reader's bug");
            let sample = if shard == 2 {
                Err(SampleError::new(SkipCause::CorruptImage, "bad"))
            } else {
                Ok(Sample {
                    label: None,
                    image: ImageData::Encoded(Vec::new()),
                    caption: String::new(),
                })
            };
            let streamed = StreamSample {
                key: at.to_string(),
                sample,
                next: at + 1,
                lost: None,
            };
            if !give(streamed) {
                return;
            }
        }
    }
}

fn numbers(shards: &[usize]) -> Arc<Numbers> {
    Arc::new(Numbers {
        shards: shards.to_vec(),
        weights: Vec::new(),
        is_uncounted: false,
    })
}

type Id = (usize, String);

/// All samples, in one part.
fn in_one_part(seed: u64, epoch_len: usize) -> StreamOrder {
    StreamOrder {
        seed,
        resample: false,
        part: PartOrder::new(0, 1, 1, epoch_len),
        own_parts: 1,
    }
}

fn take(blocks: &mut BlockShuffle, places: std::ops::Range<usize>) -> Vec<Id> {
    places
        .map(|place| blocks.take(place).unwrap())
        .map(|(shard, streamed)| (shard, streamed.key))
        .collect()
}

fn epoch(shards: &Arc<Numbers>, seed: u64, len: usize, epoch: u64) -> Vec<Id> {
    let mut blocks = BlockShuffle::start(shards.clone(), in_one_part(seed, len), epoch, None);
    take(&mut blocks, 0..len)
}

#[test]
fn an_epoch_as_long_as_the_dataset_has_every_sample_once() {
    let shards = numbers(&[30, 7, 50, 1, 0]);
    let (first, second) = (epoch(&shards, 1, 88, 0), epoch(&shards, 1, 88, 1));
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 88);
    assert_eq!(second.iter().collect::<BTreeSet<_>>().len(), 88);
    assert_ne!(first, second);
    assert_ne!(first, epoch(&shards, 2, 88, 0));
    assert_eq!(first, epoch(&shards, 1, 88, 0));
    // Neighbors in a shard are seldom neighbors in the epoch.
    let follows = |pair: &[Id]| {
        let at = |id: &Id| id.1.parse::<usize>().unwrap();
        pair[0].0 == pair[1].0 && at(&pair[0]) + 1 == at(&pair[1])
    };
    assert!(first.windows(2).filter(|pair| follows(pair)).count() < 20);
}

#[test]
fn a_longer_epoch_starts_another_pass() {
    let ids = epoch(&numbers(&[10, 10]), 3, 50, 0);
    for pass in [&ids[..20], &ids[20..40]] {
        assert_eq!(pass.iter().collect::<BTreeSet<_>>().len(), 20);
    }
    assert_ne!(ids[..20], ids[20..40]);
}

#[test]
fn a_stream_resumes_from_a_mark() {
    let shards = numbers(&[30, 7, 50, 1, 40]);
    let whole = epoch(&shards, 1, 300, 4);
    let mut blocks = BlockShuffle::start(shards.clone(), in_one_part(1, 300), 4, None);
    for place in 0..290 {
        blocks.take(place).unwrap();
        let next = place + 1;
        if next % 7 != 0 {
            continue;
        }
        let mark = blocks.mark(next);
        assert!(next - mark.place < 16, "at most one block is read again");
        let mut again = BlockShuffle::start(shards.clone(), in_one_part(1, 300), 4, Some(mark));
        assert_eq!(take(&mut again, next..next + 10), whole[next..next + 10]);
    }
}

#[test]
fn epochs_follow_each_other_and_continue_where_samples_are_bad() {
    let shards = numbers(&[30, 30]);
    let mut blocks = BlockShuffle::start(shards.clone(), in_one_part(1, 40), 0, None);
    let first = take(&mut blocks, 0..50);
    assert_eq!(first[..40], epoch(&shards, 1, 40, 0));
    blocks.set_epoch(1);
    assert_eq!(take(&mut blocks, 0..40), epoch(&shards, 1, 40, 1));
}

#[test]
fn shards_come_as_often_as_their_weights_say() {
    let shards = Arc::new(Numbers {
        shards: vec![10, 10],
        weights: vec![2.0, 0.5],
        is_uncounted: false,
    });
    let ids = epoch(&shards, 1, 1000, 0);
    let second = ids.iter().filter(|id| id.0 == 1).count();
    assert!((140..260).contains(&second), "{second} of 1000");
}

#[test]
fn shards_without_samples_end_the_stream_with_an_error() {
    for shards in [&[][..], &[0, 0]] {
        let mut blocks = BlockShuffle::start(numbers(shards), in_one_part(1, 10), 0, None);
        assert!(matches!(blocks.take(0), Err(NoSamples)));
    }
}

#[test]
fn a_panicking_reader_loses_only_its_shard() {
    let mut walk = Walk::new(
        numbers(&[1, 0, 0, 0, 0, 3, 1]),
        ShardOrder::Listed,
        (0, None),
        None,
    );
    let ids: Vec<_> = std::iter::from_fn(|| walk.next()).collect();
    let bad: Vec<bool> = ids.iter().map(|(_, one)| one.sample.is_err()).collect();
    assert_eq!(bad, [false, true, false]);
}

/// Shards of ten samples; every fourth is unreadable, every fifth is cut off in the middle.
struct Damaged(usize);

impl ShardedDataset for Damaged {
    fn len(&self) -> usize {
        self.0
    }

    fn samples(&self) -> Option<usize> {
        None
    }

    fn shuffle_buffer(&self) -> usize {
        16
    }

    fn name(&self, shard: usize) -> String {
        shard.to_string()
    }

    fn listing(&self) -> Vec<crate::ListedFile> {
        Vec::new()
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        let (end, damaged) = match shard {
            _ if shard % 4 == 3 => (0, true),
            _ if shard % 5 == 2 => (6, true),
            _ => (10, false),
        };
        if from > end {
            return;
        }
        numbers(&[usize::try_from(end).unwrap()]).read(0, from, epoch, give);
        if damaged {
            give(StreamSample {
                key: String::new(),
                sample: Err(SampleError::new(SkipCause::Unreadable, "bad")),
                next: u64::MAX,
                lost: Some(Lost::Rest),
            });
        }
    }
}

#[test]
fn lost_samples_are_estimated_from_undamaged_shards() {
    let shards = Arc::new(Damaged(40));
    let costs = |mark: Option<StreamState>, places: std::ops::Range<usize>| -> Vec<usize> {
        let mut blocks = BlockShuffle::start(shards.clone(), in_one_part(1, 400), 0, mark);
        let cost = |place| match blocks.take(place).unwrap().1.sample {
            Ok(_) => 0,
            Err(error) => error.samples,
        };
        places.map(cost).collect()
    };
    // Ten are lost entirely, six of the others lack four samples: 30 * 10 - 6 * 4 + 16 entries.
    let all = costs(None, 0..292);
    assert_eq!(all.iter().filter(|cost| **cost == 10).count(), 10);
    assert_eq!(all.iter().filter(|cost| **cost == 4).count(), 6);
    assert_eq!(all.iter().sum::<usize>(), 124);
    // The same after resuming from a mark.
    let mut blocks = BlockShuffle::start(shards.clone(), in_one_part(1, 400), 0, None);
    for place in 0..150 {
        blocks.take(place).unwrap();
    }
    let mark = blocks.mark(150);
    assert_eq!(costs(Some(mark), 150..292), all[150..]);
}

#[test]
fn the_stream_in_one_part_is_that_of_versions_without_parts() {
    let ids = epoch(&numbers(&[6, 7, 1, 9, 2]), 1, 30, 2);
    let ids: Vec<String> = ids
        .iter()
        .map(|(shard, key)| format!("{shard}.{key}"))
        .collect();
    let earlier = "4.1 0.2 1.3 3.3 4.0 3.1 0.4 0.1 3.0 1.1 0.0 1.0 3.2 1.2 0.3 2.0 3.4 3.5 3.7 3.8 0.5 1.6 \
                   1.4 3.6 1.5 0.1 0.0 4.0 3.0 2.0";
    assert_eq!(ids.join(" "), earlier);
}

/// The samples that each part takes of an epoch.
fn parts_of(shards: &Arc<Numbers>, parts: usize, epoch_len: usize, resample: bool) -> Vec<Vec<Id>> {
    let take_part = |part| {
        let order = StreamOrder {
            resample,
            part: PartOrder::new(part, parts, parts, epoch_len),
            own_parts: 1,
            ..in_one_part(1, epoch_len)
        };
        let mut blocks = BlockShuffle::start(shards.clone(), order, 3, None);
        take(&mut blocks, 0..order.part.len())
    };
    (0..parts).map(take_part).collect()
}

#[test]
fn parts_read_shards_of_their_own() {
    let shards = numbers(&[10; 24]);
    // Weights are ones: a pass has every shard once. Shard 5 cannot be read.
    for parts in [2, 4, 8] {
        let taken = parts_of(&shards, parts, 120, false);
        let shards_of =
            |part: &Vec<Id>| -> BTreeSet<usize> { part.iter().map(|(shard, _)| *shard).collect() };
        let each: Vec<_> = taken.iter().map(shards_of).collect();
        let all: BTreeSet<_> = each.iter().flatten().collect();
        let sum: usize = each.iter().map(BTreeSet::len).sum();
        assert_eq!(sum, all.len(), "{parts} parts share no shard");
        assert!(each.iter().all(|own| own.len() <= 24 / parts));
    }
}

#[test]
fn a_part_goes_on_with_its_next_pass_however_uneven_the_shards_are() {
    for shards in [&[1, 300, 0, 2, 0, 40, 7, 9][..], &[0, 0, 0, 0, 0, 0, 0, 3]] {
        let mut shards = shards.to_vec();
        shards.swap(5, 6);
        let set = numbers(&shards);
        for resample in [false, true] {
            for part in parts_of(&set, 8, 400, resample) {
                assert_eq!(part.len(), 50);
            }
        }
    }
    let set = Arc::new(Numbers {
        shards: vec![10; 4],
        // Most passes have no shard for most parts.
        weights: vec![0.2; 4],
        is_uncounted: true,
    });
    assert!(
        parts_of(&set, 4, 400, false)
            .iter()
            .all(|part| part.len() == 100)
    );
}
