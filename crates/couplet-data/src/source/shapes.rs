//! Images of colored shapes, drawn by Couplet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{MapDataset, PairDataset};
use crate::listing::ListedFile;
use crate::sample::{ImageData, Sample, SampleError};
use crate::shapes::training_pair;

/// `source = "shapes"`: images of colored shapes that Couplet draws.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShapesConfig {
    /// Number of images in an epoch; each epoch draws new ones.
    #[serde(default = "default_samples")]
    #[schemars(range(min = 1))]
    pub samples: usize,
}

fn default_samples() -> usize {
    8192
}

impl ShapesConfig {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        if self.samples == 0 {
            return vec![("samples", "must be at least 1".into())];
        }
        Vec::new()
    }

    /// - seed: seed of the drawn images; image_size: their side, in pixels.
    pub(super) fn open(&self, seed: u64, image_size: u32) -> PairDataset {
        PairDataset::indexed(ShapesPairs {
            samples: self.samples,
            seed,
            image_size,
        })
    }
}

#[derive(Debug)]
struct ShapesPairs {
    samples: usize,
    seed: u64,
    image_size: u32,
}

impl MapDataset for ShapesPairs {
    fn len(&self) -> usize {
        self.samples
    }

    fn read(&self, index: usize, epoch: u64) -> Result<Sample, SampleError> {
        let (pixels, caption) = training_pair(self.seed, epoch, index, self.image_size);
        Ok(Sample {
            label: None,
            image: ImageData::Pixels(pixels),
            caption,
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        ("shapes".into(), index.to_string())
    }

    fn listing(&self) -> Vec<ListedFile> {
        vec![ListedFile {
            name: "shapes".into(),
            size: None,
            samples: Some(self.samples),
            digest: None,
        }]
    }
}
