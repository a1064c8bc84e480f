//! The one place that joins model, transform and tokenizer.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use couplet_data::{Tokenizer, Transform, batch};
use couplet_model::open_clip::{self, FolderError};
use couplet_model::{Clip, ModelSpec, PreprocessSpec, l2_normalize};

/// A model that takes 8-bit pixels and text.
#[derive(Debug, Clone)]
pub struct Encoder {
    model: Clip,
    preprocess: PreprocessSpec,
    transform: Transform,
    context_length: usize,
}

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{}: no model here; give a run's folder, a checkpoint, or a folder with {} and {}",
        path.display(), open_clip::CONFIG_FILE, open_clip::WEIGHTS_FILE
    )]
    NoModel { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(
        "{}: the model's vocabulary of {vocab_size} tokens is not CLIP's {clip}",
        path.display()
    )]
    Vocabulary {
        path: PathBuf,
        vocab_size: usize,
        clip: usize,
    },
}

impl Encoder {
    /// Joins a model with the transform and the tokenizer that its specs call for.
    ///
    /// # Panics
    /// If the image size does not fit in 32 bits.
    pub fn new(model: Clip, spec: &ModelSpec, preprocess: &PreprocessSpec) -> Self {
        let image_size = u32::try_from(spec.image.image_size()).expect("a sound image size");
        Self {
            model,
            preprocess: preprocess.clone(),
            transform: Transform::eval(image_size),
            context_length: spec.text.context_length,
        }
    }

    /// Opens a run's folder (its best checkpoint, else its latest), a checkpoint or an
    /// open_clip folder.
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use couplet_eval::Encoder;
    ///
    /// let encoder = Encoder::open("runs/shapes".as_ref(), &Device::flex())?;
    /// let features = encoder.encode_texts(&["a red circle"]);
    /// # Ok::<(), couplet_eval::OpenError>(())
    /// ```
    ///
    /// # Errors
    /// If no model is found there, or it cannot be read.
    pub fn open(path: &Path, device: &Device) -> Result<Self, OpenError> {
        let folder = find_model(path)?;
        let loaded = open_clip::load(&folder, device)?;
        let clip = Tokenizer::clip().vocab_size();
        if loaded.spec.text.vocab_size < clip {
            return Err(OpenError::Vocabulary {
                path: folder,
                vocab_size: loaded.spec.text.vocab_size,
                clip,
            });
        }
        Ok(Self::new(loaded.model, &loaded.spec, &loaded.preprocess))
    }

    /// The transform that images need before [`Self::encode_pixels`].
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// - pixels: `[batch, image_size, image_size, 3]`, 8-bit RGB as [`Self::transform`]
    ///   leaves them.
    /// - returns image features `[batch, embed_dim]`, L2-normalised.
    pub fn encode_pixels(&self, pixels: Vec<u8>) -> Tensor<2> {
        let images = batch::images(
            pixels,
            self.transform.image_size() as usize,
            self.preprocess.mean,
            self.preprocess.std,
            &self.model.device(),
        );
        l2_normalize(self.model.encode_image(images))
    }

    /// - returns text features `[texts, embed_dim]`, L2-normalised.
    ///
    /// # Panics
    /// If `texts` is empty.
    pub fn encode_texts<T: AsRef<str>>(&self, texts: &[T]) -> Tensor<2> {
        assert!(!texts.is_empty(), "there is no text to encode");
        let ids: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| Tokenizer::clip().encode(text.as_ref(), self.context_length))
            .collect();
        let (tokens, length) = couplet_data::loader::pad(&ids, self.context_length);
        let tokens = batch::tokens(tokens, length, &self.model.device());
        l2_normalize(self.model.encode_text(tokens))
    }
}

/// The open_clip folder that `path` stands for.
fn find_model(path: &Path) -> Result<PathBuf, OpenError> {
    if path.join(open_clip::CONFIG_FILE).is_file() {
        return Ok(path.to_path_buf());
    }
    // A run's folder names its checkpoints in two small files.
    for pointer in ["best", "latest"] {
        let file = path.join(pointer);
        if file.is_file() {
            let name = std::fs::read_to_string(&file)
                .map_err(|source| OpenError::Io { path: file, source })?;
            let checkpoint = path.join("checkpoints").join(name.trim());
            if checkpoint.join(open_clip::CONFIG_FILE).is_file() {
                return Ok(checkpoint);
            }
        }
    }
    Err(OpenError::NoModel {
        path: path.to_path_buf(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_model::presets;

    #[test]
    fn a_runs_folder_opens_at_its_best_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let device = Device::flex();
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        for (name, seed) in [("step-1", 1), ("step-2", 2)] {
            let folder = run.path().join("checkpoints").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let model = Clip::init(&spec, seed, &device);
            open_clip::save(&folder, &model, &spec, &PreprocessSpec::default()).unwrap();
        }
        std::fs::write(run.path().join("latest"), "step-2\n").unwrap();
        std::fs::write(run.path().join("best"), "step-1\n").unwrap();
        let features = |path: &Path| {
            let encoder = Encoder::open(path, &device).unwrap();
            let features = encoder.encode_texts(&["a word"]);
            features.into_data().try_to_vec::<f32>().unwrap()
        };
        let best = features(run.path());
        assert_eq!(best, features(&run.path().join("checkpoints/step-1")));
        assert_ne!(best, features(&run.path().join("checkpoints/step-2")));
        let norm: f32 = best.iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_folder_without_a_model_says_what_may_stand_there() {
        let folder = tempfile::tempdir().unwrap();
        let error = Encoder::open(folder.path(), &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(error.contains("a run's folder, a checkpoint"), "{error}");
    }
}
