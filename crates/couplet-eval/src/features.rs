//! Image features of a dataset, computed while the next images are decoded.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::thread;

use burn::tensor::{Tensor, TensorData};
use couplet_data::Transform;
use couplet_data::labelled::{LabelledBatch, LabelledDataset};

use crate::encoder::Encoder;
use crate::feature_cache::FeatureCache;
use crate::feature_error::{FeatureError, NotFinite};

/// The tensor's name in feature files, as `couplet embed` writes them.
pub(crate) const IMAGE_FEATURES: &str = "image_features";
/// Images that are encoded at once.
pub(crate) const IMAGE_BATCH: usize = 64;
/// Decoded batches that may wait for the model.
const AHEAD: usize = 2;

/// Image features, as the image tower outputs them.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[images, embed_dim]`, row-major, in the dataset's order; finite, not normalized.
    pub values: Vec<f32>,
    pub embed_dim: usize,
}

/// Reads and transforms images while those before them are used.
/// - ranges: of neighbouring images, in the order in which they are taken.
/// - take: gets each batch, with the end of its range; an error ends it.
///
/// # Errors
/// As `take`.
pub fn for_each_batch<E>(
    images: &LabelledDataset,
    transform: &Transform,
    max_image_pixels: u64,
    ranges: impl Iterator<Item = Range<usize>> + Send,
    mut take: impl FnMut(LabelledBatch, usize) -> Result<(), E>,
) -> Result<(), E> {
    let (sender, batches) = sync_channel(AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || {
            for range in ranges {
                let end = range.end;
                let batch = images.batch(range, transform, max_image_pixels);
                if sender.send((batch, end)).is_err() {
                    return;
                }
            }
        });
        // Taken into the scope: after an error, the thread's next batch finds no receiver.
        for (batch, end) in batches {
            take(batch, end)?;
        }
        Ok(())
    })
}

impl Features {
    /// Encodes every image of a dataset.
    /// - max_image_pixels: larger images cannot be used.
    /// - progress: called with the number of images that are done.
    ///
    /// # Errors
    /// If images cannot be read or decoded, or features are not finite; the error lists the images.
    ///
    /// # Panics
    /// If the device fails.
    pub fn encode(
        encoder: &Encoder,
        images: &LabelledDataset,
        max_image_pixels: u64,
        progress: impl FnMut(usize),
    ) -> Result<Self, FeatureError> {
        let all = 0..images.len();
        Self::encode_some(encoder, images, all, max_image_pixels, progress)
    }

    /// As [`Self::encode`], for neighbouring images.
    /// - rows: from a multiple of [`IMAGE_BATCH`] on, so that the model gets the batches of all images.
    /// - progress: called with the end of the images that are done.
    pub(crate) fn encode_some(
        encoder: &Encoder,
        images: &LabelledDataset,
        rows: Range<usize>,
        max_image_pixels: u64,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, FeatureError> {
        let embed_dim = encoder.spec().embed_dim;
        let first = rows.start;
        let (mut values, mut bad) = (Vec::with_capacity(rows.len() * embed_dim), Vec::new());
        let ends = (rows.clone().step_by(IMAGE_BATCH))
            .map(move |start| start..rows.end.min(start + IMAGE_BATCH));
        let transform = encoder.transform();
        let all: Result<(), Infallible> =
            for_each_batch(images, transform, max_image_pixels, ends, |batch, end| {
                bad.extend(batch.skipped);
                // The rest is only decoded, so that the error lists every bad image.
                if bad.is_empty() {
                    let rows = encoder.encode_pixels_raw(batch.pixels).into_data();
                    let rows: Vec<f32> = rows.try_to_vec().expect("features are f32");
                    values.extend(rows);
                }
                progress(end);
                Ok(())
            });
        let Ok(()) = all;
        if !bad.is_empty() {
            return Err(FeatureError::Unusable {
                path: images.path().to_path_buf(),
                images: images.len(),
                bad,
            });
        }
        let name = |row: usize| {
            let (file, key) = images.locate(first + row);
            format!("{file}: {key}")
        };
        NotFinite::check("images", &values, embed_dim, name)
            .map_err(|error| error.at(images.path()))?;
        Ok(Self { values, embed_dim })
    }

    /// As [`Self::encode`], but reads the features from the cache, or writes them there.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn cached(
        encoder: &Encoder,
        images: &LabelledDataset,
        max_image_pixels: u64,
        cache: Option<&FeatureCache>,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, FeatureError> {
        let place = cache.and_then(|cache| {
            let key = cache.image_key(encoder, images, max_image_pixels)?;
            Some((cache, key))
        });
        let embed_dim = encoder.spec().embed_dim;
        let shape = [images.len(), embed_dim];
        if let Some((cache, key)) = place
            && let Some(values) = cache.read(key, IMAGE_FEATURES, shape)
        {
            progress(images.len());
            return Ok(Self { values, embed_dim });
        }
        let features = Self::encode(encoder, images, max_image_pixels, progress)?;
        if let Some((cache, key)) = place {
            cache.write(key, IMAGE_FEATURES, shape, &features.values);
        }
        Ok(features)
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.embed_dim.max(1)
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// `[images, embed_dim]` on a device.
    pub fn tensor(&self, device: &burn::tensor::Device) -> Tensor<2> {
        let data = TensorData::new(self.values.clone(), [self.len(), self.embed_dim]);
        Tensor::from_data(data, device)
    }
}
