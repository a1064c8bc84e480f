//! A folder of cached features, each in a file that is named by its key and states the digest of its
//! contents.

use std::collections::HashMap;
use std::fs;
use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};

use couplet_data::labelled::LabelledDataset;
use couplet_data::{Fingerprint, with_causes};
use couplet_model::weights::{self, NamedTensors};
use couplet_model::{Clip, Precision};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::encoder::Encoder;

/// The format of cache keys and files. Features that were cached with another format are not found.
const KEY_FORMAT: &str = "couplet features 3";
/// The digest's name in the metadata of a file.
const DIGEST: &str = "xxh64";
/// A file's header is smaller than this, in bytes.
const MAX_HEADER: u64 = 4096;
/// Weights that are hashed at once.
const HASHED: usize = 1 << 14;

impl Encoder {
    /// A hash of the weights.
    pub fn weights_fingerprint(&self) -> u64 {
        hash_weights(&weights::parameters(self.model()), |_| true)
    }

    /// A hash of what features depend on besides the weights: architecture, preprocessing and precision.
    pub fn settings_fingerprint(&self) -> u64 {
        let mut key = Fingerprint::new(KEY_FORMAT);
        key.write_text(precision(self.model()));
        key.write_text(&to_toml(self.spec()));
        key.write_text(&to_toml(self.preprocess()));
        key.finish()
    }
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

    /// The key of a dataset's image features; `None` if they are not cached.
    pub(crate) fn image_key(
        &self,
        encoder: &Encoder,
        images: &LabelledDataset,
        max_image_pixels: u64,
    ) -> Option<u64> {
        let mut key = Fingerprint::new(KEY_FORMAT);
        key.write_u64(self.model?);
        key.write_text(precision(encoder.model()));
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
        let precision = precision(encoder.model());
        key_of_texts(self.text, precision, &spec, classes, ids)
    }

    fn path(&self, key: u64) -> PathBuf {
        self.folder.join(format!("{key:016x}.safetensors"))
    }

    /// Reads a matrix `[rows, width]`, row-major. `None` if it is not cached; a file that is damaged or
    /// of another matrix is reported, and counts as not cached.
    pub(crate) fn read(&self, key: u64, name: &str, shape: [usize; 2]) -> Option<Vec<f32>> {
        let path = self.path(key);
        if !path.is_file() {
            return None;
        }
        let values = read_matrix(&path, key, name, shape);
        values
            .map_err(|problem| {
                let file = path.display();
                tracing::warn!("{file}: the cached features are computed again: {problem}");
            })
            .ok()
    }

    /// Writes a matrix `[rows, width]`; if that fails, warns and continues without it.
    pub(crate) fn write(&self, key: u64, name: &str, shape: [usize; 2], values: &[f32]) {
        let path = self.path(key);
        let unfinished = path.with_extension(format!("{}.new", std::process::id()));
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let write = || -> Result<(), Box<dyn std::error::Error>> {
            fs::create_dir_all(&self.folder)?;
            let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes)?;
            let digest = format!("{:016x}", digest(key, name, shape, &bytes));
            let metadata = HashMap::from([(DIGEST.to_string(), digest)]);
            // `serialize_to_file` makes files that only their owner may read.
            fs::write(
                &unfinished,
                safetensors::serialize([(name, view)], Some(metadata))?,
            )?;
            fs::rename(&unfinished, &path)?;
            Ok(())
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(&unfinished);
            let error = with_causes(&*error);
            tracing::warn!(folder = %self.folder.display(), error, "cannot cache features");
        }
    }
}

fn read_matrix(path: &Path, key: u64, name: &str, shape: [usize; 2]) -> Result<Vec<f32>, String> {
    let read = |error: io::Error| error.to_string();
    let damaged = |what: &str| format!("the file is damaged: {what}");
    let wanted = shape.iter().product::<usize>() as u64 * 4;
    // Before it is read: another file may have any size.
    let length = fs::metadata(path).map_err(read)?.len();
    if length < wanted || length > wanted + MAX_HEADER {
        return Err(damaged(&format!("it has {length} bytes")));
    }
    let bytes = fs::read(path).map_err(read)?;
    let invalid = |error: safetensors::SafeTensorError| damaged(&error.to_string());
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(invalid)?;
    let file = SafeTensors::deserialize(&bytes).map_err(invalid)?;
    let tensor = file.tensor(name).map_err(invalid)?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        return Err(damaged(&format!("it has the shape {:?}", tensor.shape())));
    }
    let stated = header.metadata().as_ref().and_then(|map| map.get(DIGEST));
    if stated != Some(&format!("{:016x}", digest(key, name, shape, tensor.data()))) {
        return Err(damaged("its contents have another digest"));
    }
    let values = tensor.data().chunks_exact(4);
    let values = values.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    Ok(values.collect())
}

/// The digest of a file: of the key, and of the name, shape and bytes of its matrix.
fn digest(key: u64, name: &str, shape: [usize; 2], bytes: &[u8]) -> u64 {
    let mut digest = Fingerprint::new(KEY_FORMAT);
    digest.write_u64(key);
    digest.write_text(name);
    for size in shape {
        digest.write_usize(size);
    }
    digest.write(bytes);
    digest.finish()
}

fn is_text_parameter(name: &str) -> bool {
    !name.starts_with("visual.") && !name.starts_with("logit_")
}

/// The precision in which a model runs, as in a config.
fn precision(model: &Clip) -> &'static str {
    match model.precision() {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::F16 => "f16",
    }
}

/// The spec as TOML, as it travels with weights: its `Debug` output may change with any release.
fn to_toml(spec: &impl Serialize) -> String {
    toml::to_string(spec).expect("specs serialize as TOML")
}

fn key_of_texts(
    weights: u64,
    precision: &str,
    spec: &str,
    classes: usize,
    ids: &[Vec<u32>],
) -> u64 {
    let mut key = Fingerprint::new(KEY_FORMAT);
    key.write_u64(weights);
    key.write_text(precision);
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
    use couplet_model::weights::HostTensor;

    const TEXTS: u64 = 0x0914_0ee3_c45e_3641;
    const KEY: u64 = 0xe53f_ac5c_3a63_c9c3;
    const FILE: u64 = 0xe580_e467_9d71_a895;

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
        assert_eq!(texts, TEXTS);
        assert_ne!(texts, hash_weights(&tensors, |_| true));
        let key =
            |precision, ids: &[Vec<u32>]| key_of_texts(texts, precision, "width = 8\n", 2, ids);
        let ids = [vec![49406, 7], vec![49407]];
        assert_eq!(key("f32", &ids), KEY);
        assert_ne!(key("bf16", &ids), KEY);
        assert_ne!(key("f32", &[vec![49406], vec![7, 49407]]), KEY);
        let bytes = [1.5_f32, -2.0].map(f32::to_le_bytes).concat();
        assert_eq!(digest(7, "classifier", [1, 2], &bytes), FILE);
    }

    fn cache(folder: &Path) -> FeatureCache {
        FeatureCache {
            folder: folder.to_path_buf(),
            model: Some(1),
            text: 2,
        }
    }

    #[test]
    fn a_damaged_file_counts_as_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let (key, shape) = (9, [4, 3]);
        let values: Vec<f32> = (0..12)
            .map(|v| f32::from(u8::try_from(v).unwrap()))
            .collect();
        cache.write(key, "m", shape, &values);
        let read = || cache.read(key, "m", shape);
        assert_eq!(read(), Some(values.clone()));
        assert_eq!(cache.read(key, "m", [3, 4]), None);
        assert_eq!(cache.read(key, "n", shape), None);
        let path = cache.path(key);
        let sound = fs::read(&path).unwrap();
        let data = sound.len() - 48;
        let mut swapped = sound.clone();
        swapped[data..].rotate_left(24);
        let flipped = |at: usize, bit: u8| {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << bit;
            bytes
        };
        let mut damaged = vec![
            swapped,
            sound[..data + 24].to_vec(),
            Vec::new(),
            vec![0; 99],
        ];
        damaged.extend((0..sound.len()).map(|at| flipped(at, u8::try_from(at % 8).unwrap())));
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            // Spaces pad the header: a flip there may be another space.
            let found = read();
            assert!(
                found.is_none() || found.as_ref() == Some(&values),
                "{bytes:?}"
            );
            let is_padding = sound.iter().zip(&bytes).all(|(a, b)| a == b || *a == b' ');
            assert!(found.is_none() || is_padding, "{bytes:?}");
        }
        // The file of another key.
        fs::write(&path, &sound).unwrap();
        fs::rename(&path, cache.path(8)).unwrap();
        assert_eq!(cache.read(8, "m", shape), None);
        cache.write(8, "m", shape, &values);
        assert_eq!(cache.read(8, "m", shape), Some(values));
    }
}
