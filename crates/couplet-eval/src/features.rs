//! Image features of a dataset, computed while the next images are decoded, and cached together with
//! text features for other protocols.

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

/// The tensor's name in feature files, as `couplet embed` writes them.
pub(crate) const IMAGE_FEATURES: &str = "image_features";
/// Images that are encoded at once.
const IMAGE_BATCH: usize = 64;
/// Decoded batches that may wait for the model.
const AHEAD: usize = 2;
/// The format of cache keys. Features that were cached with another format are not found.
const KEY_FORMAT: &str = "couplet features 2";
/// Weights that are hashed at once.
const HASHED: usize = 1 << 14;

/// Image features, as the image tower outputs them.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[images, embed_dim]`, row-major, not normalized.
    pub values: Vec<f32>,
    pub embed_dim: usize,
    /// The index in the dataset of each row's image.
    pub indices: Vec<usize>,
    pub skipped: Vec<Skipped>,
}

/// A folder in which features are cached between evaluations.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
    /// Hash of the model's weights; `None` if image features are not cached.
    model: Option<u64>,
    /// Hash of the text tower's weights.
    text: u64,
}

impl Features {
    /// Encodes every image of a dataset.
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

    /// As [`Self::encode`], but reads the features from the cache, or writes them there.
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
        // Datasets with skipped images are not cached, so that the images are reported each time.
        if let (Some(cache), Some(key), true) = (cache, key, features.skipped.is_empty()) {
            let shape = vec![features.len(), embed_dim];
            let values = features.values.clone();
            cache.write(key, IMAGE_FEATURES, HostTensor { shape, values });
        }
        features
    }

    /// The number of images.
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
    /// Caches image features and text features.
    /// - folder: created when it is needed.
    pub fn new(folder: &Path, encoder: &Encoder) -> Self {
        let tensors = weights::parameters(encoder.model());
        Self {
            folder: folder.to_path_buf(),
            model: Some(hash_weights(&tensors, |_| true)),
            text: hash_weights(&tensors, is_text_parameter),
        }
    }

    /// Caches text features only: for a model whose image tower is still being trained.
    /// - folder: created when it is needed.
    pub fn of_texts(folder: &Path, encoder: &Encoder) -> Self {
        Self {
            folder: folder.to_path_buf(),
            model: None,
            text: hash_weights(&weights::parameters(encoder.model()), is_text_parameter),
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
        key.write_text(&to_toml(encoder.spec()));
        key.write_text(&to_toml(encoder.preprocess()));
        images.fingerprint(&mut key);
        Some(key.finish())
    }

    /// The key of a classifier.
    /// - ids: the token ids of the texts of all classes.
    pub(crate) fn text_key(&self, encoder: &Encoder, classes: usize, ids: &[Vec<u32>]) -> u64 {
        let spec = to_toml(&encoder.spec().text);
        key_of_texts(self.text, &spec, classes, ids)
    }

    fn path(&self, key: u64) -> PathBuf {
        self.folder.join(format!("{key:016x}.safetensors"))
    }

    /// - returns the values of a matrix `[rows, width]`, row-major, and its number of rows.
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

    /// Writes a matrix; if that fails, warns and continues without it.
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
            tracing::warn!(folder = %self.folder.display(), error, "cannot cache features");
        }
    }
}

fn is_text_parameter(name: &str) -> bool {
    !name.starts_with("visual.") && !name.starts_with("logit_")
}

/// The spec as TOML, as it travels with weights: its `Debug` output may change with any release.
fn to_toml(spec: &impl Serialize) -> String {
    toml::to_string(spec).expect("specs serialize as TOML")
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

fn hash_weights(tensors: &NamedTensors, is_included: fn(&str) -> bool) -> u64 {
    let mut hash = Fingerprint::new(KEY_FORMAT);
    let mut bytes = Vec::new();
    for (name, tensor) in tensors.iter().filter(|(name, _)| is_included(name)) {
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

    /// Computed by another implementation of XXH64. A key that changes invalidates all cached features.
    #[test]
    fn keys_never_change() {
        let tensor = |values: &[f32]| HostTensor {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let tensors = NamedTensors::from([
            ("text_projection".to_string(), tensor(&[1.0, -2.5])),
            ("visual.proj".to_string(), tensor(&[3.0])),
        ]);
        let texts = hash_weights(&tensors, is_text_parameter);
        assert_eq!(texts, 0xb58b_9899_386f_bd69);
        assert_ne!(texts, hash_weights(&tensors, |_| true));
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
