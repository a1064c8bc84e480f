//! Datasets of image-text pairs: read by index, or shard by shard.

use std::sync::Arc;

use rayon::prelude::*;

use crate::listing::{DataListing, ListedFile};
use crate::panics::catch_panic;
use crate::sample::{Sample, SampleError, Skipped};
use crate::stream::{ShardOrder, ShardedDataset, StreamSample, Walk};

/// A map-style dataset: image-text pairs that can be read in any order, from any thread.
pub trait MapDataset: Send + Sync {
    /// The number of samples in the dataset, including unusable ones.
    fn len(&self) -> usize;

    /// Whether the dataset holds no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one sample. `epoch` matters for datasets that change with each epoch, such as drawn images.
    ///
    /// # Errors
    /// If the sample is unusable; the dataset stays readable.
    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError>;

    /// The file that holds the sample that [`Self::read`] returns, and the sample's key in it.
    fn locate(&self, index: usize, epoch: u64) -> (String, String);

    /// The datasets that this one combines, if an epoch does not show all of their samples.
    fn parts(&self) -> Vec<Arc<dyn MapDataset>> {
        Vec::new()
    }

    /// The dataset's files, named by their whole paths, with what is known of them.
    fn listing(&self) -> Vec<ListedFile>;
}

/// An opened dataset of image-text pairs.
#[derive(Clone)]
pub enum PairDataset {
    Indexed(Arc<dyn MapDataset>),
    Stream(Arc<dyn ShardedDataset>),
}

/// A sample, and where it is.
#[derive(Debug)]
pub struct Picked {
    /// The file that holds it, and its key there.
    pub file: String,
    pub key: String,
    pub sample: Sample,
}

impl PairDataset {
    /// Reads usable samples from all over the dataset, evenly spaced; of a stream, those that come first.
    /// - most: samples that are looked at; take: gets the usable ones of some neighbours, in order, and returns whether to
    ///   go on.
    pub fn pick(&self, most: usize, mut take: impl FnMut(Vec<Picked>) -> bool) {
        const TOGETHER: usize = 64;
        let located: Box<dyn Iterator<Item = (String, String, Item)>> = match self {
            Self::Indexed(source) => {
                let (all, count) = (source.len(), most.min(source.len()));
                let spread = (0..count).map(move |at| at * all / count);
                Box::new(spread.map(|index| {
                    let (file, key) = source.locate(index, 0);
                    (file, key, Item::Index(index))
                }))
            }
            Self::Stream(shards) => {
                let mut walk = Walk::new(shards.clone(), ShardOrder::Listed, (0, None), None);
                let first = std::iter::from_fn(move || walk.next()).take(most);
                Box::new(first.map(|(shard, streamed)| {
                    let key = streamed.key.clone();
                    (shards.name(shard), key, Item::StreamSample(shard, streamed))
                }))
            }
        };
        let mut located = located;
        loop {
            let some: Vec<_> = located.by_ref().take(TOGETHER).collect();
            if some.is_empty() {
                return;
            }
            let read = some.into_par_iter().filter_map(|(file, key, item)| {
                let sample = self.attempt(item, 0, |read| read()).ok()?;
                Some(Picked { file, key, sample })
            });
            if !take(read.collect()) {
                return;
            }
        }
    }

    /// The number of samples in the dataset, including unusable ones, if it is known.
    pub fn samples(&self) -> Option<usize> {
        match self {
            Self::Indexed(dataset) => Some(dataset.len()),
            Self::Stream(shards) => shards.samples(),
        }
    }

    /// The dataset's files, with what tells a change of them. Reads the files' sizes, tables, and some
    /// captions.
    pub fn listing(&self) -> DataListing {
        DataListing::new(match self {
            Self::Indexed(dataset) => dataset.listing(),
            Self::Stream(shards) => shards.listing(),
        })
    }

    /// A dataset whose samples are read by index.
    pub fn indexed(dataset: impl MapDataset + 'static) -> Self {
        Self::Indexed(Arc::new(dataset))
    }
}

/// A sample of a dataset, to be read by the thread that processes it.
pub(crate) enum Item {
    Index(usize),
    /// With the index of its shard.
    StreamSample(usize, StreamSample),
}

/// Reads the sample that is being processed.
pub(crate) type Read<'a> = Box<dyn FnOnce() -> Result<Sample, SampleError> + 'a>;

impl PairDataset {
    /// Processes one sample. An error, or a decoder that panics on damaged bytes, skips the sample
    /// instead of ending the run.
    pub(crate) fn attempt<T>(
        &self,
        item: Item,
        epoch: u64,
        work: impl FnOnce(Read<'_>) -> Result<T, SampleError>,
    ) -> Result<T, Skipped> {
        let guarded = |read: Read<'_>| catch_panic(|| work(read));
        match (self, item) {
            (Self::Indexed(source), Item::Index(index)) => {
                guarded(Box::new(|| source.read(index, epoch)))
                    .map_err(|error| error.at(epoch, source.locate(index, epoch)))
            }
            (Self::Stream(shards), Item::StreamSample(shard, streamed)) => {
                let StreamSample { key, sample, .. } = streamed;
                guarded(Box::new(move || sample))
                    .map_err(|error| error.at(epoch, (shards.name(shard), key)))
            }
            _ => unreachable!("the item is of another kind of dataset"),
        }
    }

    /// Every usable sample, in the dataset's order.
    #[cfg(test)]
    pub(crate) fn read_all(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let all: Result<(), std::convert::Infallible> = self.for_each_chunk(
            8,
            |read| read(),
            |read| {
                samples.extend(read.into_iter().flatten());
                Ok(())
            },
        );
        let Ok(()) = all;
        samples
    }

    /// Processes every sample of the dataset in its own order, `chunk` samples in parallel.
    /// - take: receives the outcomes of a chunk, in order.
    pub(crate) fn for_each_chunk<T: Send, E>(
        &self,
        chunk: usize,
        work: impl Fn(Read<'_>) -> Result<T, SampleError> + Sync,
        mut take: impl FnMut(Vec<Result<T, Skipped>>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Self::Indexed(source) = self {
            let parts = source.parts();
            for part in &parts {
                let part = Self::Indexed(part.clone());
                part.for_each_item(chunk, &work, &mut take)?;
            }
            if !parts.is_empty() {
                return Ok(());
            }
        }
        self.for_each_item(chunk, &work, &mut take)
    }

    fn for_each_item<T: Send, E>(
        &self,
        chunk: usize,
        work: &(impl Fn(Read<'_>) -> Result<T, SampleError> + Sync),
        take: &mut impl FnMut(Vec<Result<T, Skipped>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut items: Box<dyn Iterator<Item = Item>> = match self {
            Self::Indexed(source) => Box::new((0..source.len()).map(Item::Index)),
            Self::Stream(shards) => {
                let mut walk = Walk::new(shards.clone(), ShardOrder::Listed, (0, None), None);
                let samples = std::iter::from_fn(move || walk.next());
                Box::new(samples.map(|(shard, streamed)| Item::StreamSample(shard, streamed)))
            }
        };
        loop {
            let chunk_items: Vec<Item> = items.by_ref().take(chunk).collect();
            if chunk_items.is_empty() {
                return Ok(());
            }
            let outcomes = chunk_items
                .into_par_iter()
                .map(|item| self.attempt(item, 0, work));
            take(outcomes.collect())?;
        }
    }
}
