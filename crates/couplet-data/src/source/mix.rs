//! Several datasets in one, each with a weight.

use std::sync::Arc;

use super::dataset::MapDataset;
use crate::listing::ListedFile;
use crate::sample::{Sample, SampleError};
use crate::stream::{ShardedDataset, StreamSample};

/// The shards of several streams as one stream; each shard comes as often as its weight says.
pub(super) struct MixShards(pub Vec<(Arc<dyn ShardedDataset>, f64)>);

impl MixShards {
    /// The dataset of a shard, its weight, and the shard's index in it.
    fn find(&self, mut shard: usize) -> (&dyn ShardedDataset, f64, usize) {
        for (shards, weight) in &self.0 {
            if shard < shards.len() {
                return (shards.as_ref(), *weight, shard);
            }
            shard -= shards.len();
        }
        unreachable!("a shard of the mix")
    }
}

impl ShardedDataset for MixShards {
    fn len(&self) -> usize {
        self.0.iter().map(|(shards, _)| shards.len()).sum()
    }

    /// Unknown: how often each shard comes is drawn in each pass.
    fn samples(&self) -> Option<usize> {
        None
    }

    fn shuffle_buffer(&self) -> usize {
        let buffers = self.0.iter().map(|(shards, _)| shards.shuffle_buffer());
        buffers.max().unwrap_or(1)
    }

    fn weight(&self, shard: usize) -> f64 {
        self.find(shard).1
    }

    fn listing(&self) -> Vec<ListedFile> {
        self.0
            .iter()
            .flat_map(|(shards, _)| shards.listing())
            .collect()
    }

    fn name(&self, shard: usize) -> String {
        let (shards, _, shard) = self.find(shard);
        shards.name(shard)
    }

    fn read(
        &self,
        shard: usize,
        from: u64,
        epoch: u64,
        give: &mut dyn FnMut(StreamSample) -> bool,
    ) {
        let (shards, _, shard) = self.find(shard);
        shards.read(shard, from, epoch, give);
    }
}

/// A dataset's range of the mix's indices.
struct Member {
    source: Arc<dyn MapDataset>,
    first: usize,
    len: usize,
}

/// A mix of map-style datasets. Each has a range of the indices as long as its number of samples times
/// its weight. Over the epochs, a range walks through permutations of its dataset, so that all samples
/// of a dataset are seen equally often, up to a difference of one.
pub(super) struct MixPairs {
    parts: Arc<[Member]>,
    len: usize,
    seed: u64,
}

impl MixPairs {
    pub fn new(sources: Vec<(Arc<dyn MapDataset>, f64)>, seed: u64) -> Self {
        let mut parts = Vec::new();
        let mut first = 0;
        for (source, weight) in sources {
            let len = range_len(source.len(), weight);
            parts.push(Member { source, first, len });
            first += len;
        }
        Self {
            parts: parts.into(),
            len: first,
            seed,
        }
    }

    /// The member that an index belongs to, and the sample of its dataset in `epoch`.
    fn find(&self, index: usize, epoch: u64) -> (&Member, usize) {
        let at = self
            .parts
            .partition_point(|part| part.first + part.len <= index);
        let part = &self.parts[at];
        let (len, samples) = (part.len as u128, part.source.len() as u128);
        let walked = u128::from(epoch) * len + (index - part.first) as u128;
        let pass = u64::try_from(walked / samples).unwrap_or(u64::MAX);
        let within = u64::try_from(walked % samples).unwrap_or(0);
        let key = [self.seed, at as u64, pass];
        let sample = permuted(within, part.source.len() as u64, key);
        (
            part,
            usize::try_from(sample).expect("an index of the dataset"),
        )
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a positive count"
)]
fn range_len(samples: usize, weight: f64) -> usize {
    ((samples as f64 * weight).round() as usize).max(1)
}

impl MapDataset for MixPairs {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let (part, sample) = self.find(index, epoch);
        part.source.read(sample, epoch)
    }

    fn locate(&self, index: usize, epoch: u64) -> (String, String) {
        let (part, sample) = self.find(index, epoch);
        part.source.locate(sample, epoch)
    }

    fn parts(&self) -> Vec<Arc<dyn MapDataset>> {
        self.parts.iter().map(|part| part.source.clone()).collect()
    }

    fn listing(&self) -> Vec<ListedFile> {
        let parts = self.parts.iter();
        parts.flat_map(|part| part.source.listing()).collect()
    }
}

/// The position of `index` in a permutation of `0..len` that needs no memory: four rounds of a Feistel
/// network over a power of 4, repeated until the result is below `len`.
/// Source: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains".
fn permuted(index: u64, len: u64, key: [u64; 3]) -> u64 {
    let bits = (64 - len.saturating_sub(1).leading_zeros())
        .div_ceil(2)
        .max(1);
    let mask = (1 << bits) - 1;
    let mut at = index;
    loop {
        let (mut left, mut right) = (at >> bits, at & mask);
        for round in 0..4 {
            let mixed = hash([key[0], key[1], key[2], round, right]) & mask;
            (left, right) = (right, left ^ mixed);
        }
        at = left << bits | right;
        if at < len {
            return at;
        }
    }
}

/// Source: Steele et al. 2014, "Fast splittable pseudorandom number generators".
fn hash(words: [u64; 5]) -> u64 {
    words.iter().fold(0, |state: u64, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::super::dataset::PairDataset;
    use super::*;
    use crate::sample::ImageData;
    use std::collections::HashMap;

    #[test]
    fn a_permutation_without_memory_hits_every_index_once() {
        for len in [1, 2, 7, 64, 1000] {
            let mut seen: Vec<u64> = (0..len).map(|i| permuted(i, len, [1, 2, 3])).collect();
            if len == 1000 {
                assert!(
                    seen.windows(2)
                        .filter(|pair| pair[1] == pair[0] + 1)
                        .count()
                        < 20
                );
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }
    }

    struct Numbers(usize);

    impl MapDataset for Numbers {
        fn len(&self) -> usize {
            self.0
        }

        fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
            Ok(Sample {
                label: None,
                image: ImageData::Encoded(Vec::new()),
                caption: format!("{}:{index}", self.0),
            })
        }

        fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
            (self.0.to_string(), index.to_string())
        }

        fn listing(&self) -> Vec<ListedFile> {
            Vec::new()
        }
    }

    #[test]
    fn weights_are_kept_and_the_samples_of_a_dataset_are_seen_equally_often() {
        let part = |len: usize, first, weight| Member {
            source: Arc::new(Numbers(len)),
            first,
            len: range_len(len, weight),
        };
        // Each sample of the first twice per epoch, of the second every other epoch.
        let parts = vec![part(5, 0, 2.0), part(20, 10, 0.5)];
        let mix = MixPairs {
            parts: parts.into(),
            len: 20,
            seed: 3,
        };
        let mut seen: HashMap<String, usize> = HashMap::new();
        for epoch in 0..4 {
            for index in 0..20 {
                let caption = mix.read(index, epoch).unwrap().caption;
                assert!(caption.ends_with(&mix.locate(index, epoch).1));
                *seen.entry(caption).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), 25);
        let all = PairDataset::Indexed(Arc::new(mix)).read_all();
        assert_eq!(all.len(), 25, "all are read, whatever their weights");
        for (caption, count) in seen {
            assert_eq!(
                count,
                if caption.starts_with("5:") { 8 } else { 2 },
                "{caption}"
            );
        }
    }
}
