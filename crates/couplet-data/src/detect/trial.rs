//! Reads some samples of a source.

use crate::decode::{DEFAULT_MAX_IMAGE_PIXELS, decode};
use crate::error::printable_text;
use crate::formats::DataError;
use crate::panics::catch_panic;
use crate::sample::{Sample, SampleError};
use crate::source::{PairDataset, SourceConfig};
use crate::stream::{ShardOrder, Walk};

/// Samples that are read to find out what a dataset is.
const SAMPLES: usize = 48;
/// Side of images that a source draws; no detected source does.
const DRAWN_SIZE: u32 = 64;

/// Some samples of a source, spread over it.
#[derive(Debug, Default)]
pub struct Trial {
    /// The number of samples in the dataset, if it is known without reading it.
    pub samples: Option<usize>,
    /// Usable samples that were read.
    pub read: usize,
    /// Unusable samples among those tried.
    pub bad: usize,
    /// Why the first unusable one is.
    pub problem: Option<String>,
    /// Width and height of the images, in pixels.
    pub sizes: Vec<[u32; 2]>,
    /// Some captions.
    pub captions: Vec<String>,
}

impl Trial {
    /// Opens a source and reads some of its samples.
    ///
    /// # Errors
    /// If the source cannot be opened.
    pub(super) fn run(source: &SourceConfig) -> Result<Self, DataError> {
        let dataset = source.open(0, DRAWN_SIZE)?;
        let mut trial = Self {
            samples: dataset.samples(),
            ..Self::default()
        };
        match dataset {
            PairDataset::Indexed(dataset) => {
                let step = (dataset.len() / SAMPLES).max(1);
                for index in (0..dataset.len()).step_by(step).take(SAMPLES) {
                    trial.add(catch_panic(|| dataset.read(index, 0)));
                }
            }
            PairDataset::Stream(shards) => {
                let mut walk = Walk::new(shards, ShardOrder::Listed, (0, None), None);
                let mut samples = std::iter::from_fn(|| walk.next());
                for (_, streamed) in samples.by_ref().take(SAMPLES) {
                    trial.add(streamed.sample);
                }
                // Nothing but reading a compressed shard says how many samples it has.
                let tried = trial.read + trial.bad;
                trial.samples.get_or_insert_with(|| tried + samples.count());
            }
        }
        Ok(trial)
    }

    fn add(&mut self, sample: Result<Sample, SampleError>) {
        let size = sample.and_then(|sample| {
            let image = catch_panic(|| decode(sample.image, DEFAULT_MAX_IMAGE_PIXELS))?;
            Ok(([image.width(), image.height()], sample.caption))
        });
        match size {
            Ok((size, caption)) => {
                self.read += 1;
                self.sizes.push(size);
                if !self.captions.contains(&caption) {
                    self.captions.push(caption);
                }
            }
            Err(error) => {
                self.bad += 1;
                let problem = || printable_text(&error.to_string()).into_owned();
                self.problem.get_or_insert_with(problem);
            }
        }
    }

    /// The median of the images' shorter sides, in pixels.
    pub fn short_side(&self) -> u32 {
        let mut sides: Vec<u32> = self.sizes.iter().map(|[w, h]| *w.min(h)).collect();
        sides.sort_unstable();
        sides.get(sides.len() / 2).copied().unwrap_or(0)
    }
}
