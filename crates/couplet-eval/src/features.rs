//! The features of a set's images, computed while the next images are decoded, and kept for
//! other protocols; and the features of its classes.

use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use burn::tensor::{Tensor, TensorData};
use couplet_data::labelled::LabelledDataset;
use couplet_data::{Fingerprint, Skipped, with_causes};
use couplet_model::weights::{self, HostTensor, NamedTensors};
use serde::Serialize;

use crate::encoder::Encoder;

/// What files of features call them; as `couplet embed` does.
pub(crate) const IMAGE_FEATURES: &str = "image_features";
/// Images whose features are computed at once.
const IMAGE_BATCH: usize = 64;
/// Decoded batches that wait for the model.
const AHEAD: usize = 2;
/// What keys are made of. Features under the keys of another format are not found again.
const KEY_FORMAT: &str = "couplet features 2";
/// Weights that are hashed at once.
const HASHED: usize = 1 << 14;

/// Features of images, as the tower makes them.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[images, embed_dim]`, rows first, not normalised.
    pub values: Vec<f32>,
    pub embed_dim: usize,
    /// Which of the set's images they are of.
    pub indices: Vec<usize>,
    pub skipped: Vec<Skipped>,
}

/// A folder in which features outlive the evaluation that computed them.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
    /// Of the model's weights; `None` where the features of images are not kept.
    model: Option<u64>,
    /// Of the text tower's weights.
    text: u64,
}

impl Features {
    /// Computes the features of every image of a set.
    /// - max_image_pixels: larger images are skipped.
    /// - progress: called with the number of images that are done.
    ///
    /// # Panics
    /// If the device fails.
    pub fn encode(
        encoder: &Encoder,
        images: &LabelledDataset,
        max_image_pixels: u64,
        mut progress: impl FnMut(usize),
    ) -> Self {
        let mut features = Self {
            values: Vec::new(),
            embed_dim: encoder.spec().embed_dim,
            indices: Vec::new(),
            skipped: Vec::new(),
        };
        let (sender, batches) = sync_channel(AHEAD);
        thread::scope(|scope| {
            scope.spawn(move || {
                for start in (0..images.len()).step_by(IMAGE_BATCH) {
                    let range = start..images.len().min(start + IMAGE_BATCH);
                    let end = range.end;
                    let batch = images.batch(range, encoder.transform(), max_image_pixels);
                    if sender.send((batch, end)).is_err() {
                        return;
                    }
                }
            });
            for (batch, end) in batches {
                if !batch.indices.is_empty() {
                    let values = encoder.encode_pixels_raw(batch.pixels).into_data();
                    let values: Vec<f32> = values.try_to_vec().expect("features are f32");
                    features.values.extend(values);
                }
                features.indices.extend(batch.indices);
                features.skipped.extend(batch.skipped);
                progress(end);
            }
        });
        features
    }

    /// As [`Self::encode`], read from the cache if they are there, and written to it if not.
    pub fn cached(
        encoder: &Encoder,
        images: &LabelledDataset,
        max_image_pixels: u64,
        cache: Option<&FeatureCache>,
        mut progress: impl FnMut(usize),
    ) -> Self {
        let key = cache.and_then(|cache| cache.key(encoder, images, max_image_pixels));
        let embed_dim = encoder.spec().embed_dim;
        if let (Some(cache), Some(key)) = (cache, key)
            && let Some((values, images)) = cache.read(key, IMAGE_FEATURES, embed_dim)
        {
            progress(images);
            return Self {
                values,
                embed_dim,
                indices: (0..images).collect(),
                skipped: Vec::new(),
            };
        }
        let features = Self::encode(encoder, images, max_image_pixels, progress);
        // Skipped images are reported each time, so such datasets are read each time.
        if let (Some(cache), Some(key), true) = (cache, key, features.skipped.is_empty()) {
            let shape = vec![features.len(), embed_dim];
            let values = features.values.clone();
            cache.write(key, IMAGE_FEATURES, HostTensor { shape, values });
        }
        features
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether no image could be read.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// `[images, embed_dim]` on a device.
    pub fn tensor(&self, device: &burn::tensor::Device) -> Tensor<2> {
        let data = TensorData::new(self.values.clone(), [self.len(), self.embed_dim]);
        Tensor::from_data(data, device)
    }
}

impl FeatureCache {
    /// Keeps the features of images and of classes.
    /// - folder: made when it is needed.
    pub fn new(folder: &Path, encoder: &Encoder) -> Self {
        let tensors = weights::parameters(encoder.model());
        Self {
            folder: folder.to_path_buf(),
            model: Some(hash_of(&tensors, |_| true)),
            text: hash_of(&tensors, is_texts),
        }
    }

    /// Keeps the features of classes alone: for a model whose image tower goes on learning.
    /// - folder: made when it is needed.
    pub fn of_texts(folder: &Path, encoder: &Encoder) -> Self {
        Self {
            folder: folder.to_path_buf(),
            model: None,
            text: hash_of(&weights::parameters(encoder.model()), is_texts),
        }
    }

    fn key(
        &self,
        encoder: &Encoder,
        images: &LabelledDataset,
        max_image_pixels: u64,
    ) -> Option<u64> {
        let mut key = Fingerprint::new(KEY_FORMAT);
        key.write_u64(self.model?);
        key.write_u64(max_image_pixels);
        key.write_text(&as_text(encoder.spec()));
        key.write_text(&as_text(encoder.preprocess()));
        images.fingerprint(&mut key);
        Some(key.finish())
    }

    /// - ids: of the texts of all classes, as the tokenizer makes them.
    pub(crate) fn text_key(&self, encoder: &Encoder, classes: usize, ids: &[Vec<u32>]) -> u64 {
        let spec = as_text(&encoder.spec().text);
        key_of_texts(self.text, &spec, classes, ids)
    }

    fn path(&self, key: u64) -> PathBuf {
        self.folder.join(format!("{key:016x}.safetensors"))
    }

    /// - returns the values of a matrix `[rows, width]`, and its rows.
    pub(crate) fn read(&self, key: u64, name: &str, width: usize) -> Option<(Vec<f32>, usize)> {
        let path = self.path(key);
        if !path.is_file() {
            return None;
        }
        let tensor = weights::read(&path).ok()?.tensors.remove(name)?;
        match tensor.shape[..] {
            [rows, columns] if columns == width => Some((tensor.values, rows)),
            _ => None,
        }
    }

    /// A cache that cannot be written is done without.
    pub(crate) fn write(&self, key: u64, name: &str, tensor: HostTensor) {
        let path = self.path(key);
        let unfinished = path.with_extension(format!("{}.new", std::process::id()));
        let write = || -> Result<(), Box<dyn std::error::Error>> {
            fs::create_dir_all(&self.folder)?;
            weights::save(&unfinished, &NamedTensors::from([(name.into(), tensor)]))?;
            fs::rename(&unfinished, &path)?;
            Ok(())
        };
        if let Err(error) = write() {
            let error = with_causes(&*error);
            tracing::warn!(folder = %self.folder.display(), error, "features are not kept");
        }
    }
}

fn is_texts(name: &str) -> bool {
    !name.starts_with("visual.") && !name.starts_with("logit_")
}

/// A spec as it travels with weights: `Debug` may change with any release.
fn as_text(spec: &impl Serialize) -> String {
    toml::to_string(spec).expect("specs have a TOML form")
}

fn key_of_texts(weights: u64, spec: &str, classes: usize, ids: &[Vec<u32>]) -> u64 {
    let mut key = Fingerprint::new(KEY_FORMAT);
    key.write_u64(weights);
    key.write_text(spec);
    key.write_usize(classes);
    key.write_usize(ids.len());
    for text in ids {
        key.write_usize(text.len());
        for id in text {
            key.write_u32(*id);
        }
    }
    key.finish()
}

fn hash_of(tensors: &NamedTensors, counts: fn(&str) -> bool) -> u64 {
    let mut hash = Fingerprint::new(KEY_FORMAT);
    let mut bytes = Vec::new();
    for (name, tensor) in tensors.iter().filter(|(name, _)| counts(name)) {
        hash.write_text(name);
        hash.write_usize(tensor.values.len());
        for values in tensor.values.chunks(HASHED) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hash.write(&bytes);
        }
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by another implementation of XXH64: a key that changes loses every kept feature.
    #[test]
    fn keys_are_those_of_every_release() {
        let tensor = |values: &[f32]| HostTensor {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let tensors = NamedTensors::from([
            ("text_projection".to_string(), tensor(&[1.0, -2.5])),
            ("visual.proj".to_string(), tensor(&[3.0])),
        ]);
        let texts = hash_of(&tensors, is_texts);
        assert_eq!(texts, 0xb58b_9899_386f_bd69);
        assert_ne!(texts, hash_of(&tensors, |_| true));
        let ids = [vec![49406, 7], vec![49407]];
        assert_eq!(
            key_of_texts(texts, "width = 8\n", 2, &ids),
            0x97a2_7733_3820_6377
        );
        let joined = [vec![49406], vec![7, 49407]];
        assert_ne!(
            key_of_texts(texts, "width = 8\n", 2, &joined),
            0x97a2_7733_3820_6377
        );
    }
}
