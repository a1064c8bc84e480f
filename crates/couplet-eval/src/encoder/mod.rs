//! The one place that joins model, transform and tokenizer.

mod error;
mod files;
mod tokens;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use couplet_data::loader::TokenOptions;
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, ImageData, Tokenizer, Transform, batch, labelled};
use couplet_model::{
    Clip, Interpolation, ModelSource, ModelSpec, PreprocessSpec, ResizeMode, l2_normalize,
};
use rayon::prelude::*;

pub use error::{ImageError, MissingTokenizer, OpenError};
use files::head_of;
pub use files::{EMA_HEAD_FILE, EMA_WEIGHTS_FILE, EVAL_WEIGHTS_FILE, HEAD_FILE, Head, find_model};
pub use tokens::{open_tokenizer, token_options};

/// Texts whose features are computed at once.
const TEXT_BATCH: usize = 256;

/// A model that takes images and text.
#[derive(Debug, Clone)]
pub struct Encoder {
    model: Clip,
    spec: ModelSpec,
    preprocess: PreprocessSpec,
    transform: Transform,
    tokens: Result<TokenOptions, MissingTokenizer>,
    head: Option<Head>,
}

/// How a model is opened, besides its path.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// For weights that do not say which architecture they are of: a preset's name or an
    /// open_clip config file.
    pub arch: Option<String>,
    /// Keys and values that replace those of the model's preprocessing.
    pub preprocess: Vec<(String, String)>,
}

impl Encoder {
    /// Joins a model with the transform that its specs call for, and a tokenizer.
    ///
    /// # Errors
    /// If the tokenizer has ids that the model does not know.
    ///
    /// # Panics
    /// If the image size does not fit in 32 bits.
    pub fn new(
        model: Clip,
        spec: &ModelSpec,
        preprocess: &PreprocessSpec,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Self, OpenError> {
        let tokens = token_options(spec, tokenizer)?;
        Ok(Self {
            transform: eval_transform(spec, preprocess),
            model,
            spec: spec.clone(),
            preprocess: preprocess.clone(),
            tokens: Ok(tokens),
            head: None,
        })
    }

    /// Opens a run's folder (its best checkpoint, else its latest), a checkpoint, an
    /// open_clip or Hugging Face folder, or a file of weights.
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use couplet_eval::Encoder;
    ///
    /// let encoder = Encoder::open("runs/shapes".as_ref(), &Device::flex())?;
    /// let texts = encoder.encode_texts(&["a red circle", "a blue star"])?;
    /// let images = encoder.encode_images(&["circle.png"])?;
    /// let similarity = images.matmul(texts.transpose()); // [1, 2]
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If no model is found there, or it cannot be read.
    pub fn open(path: &Path, device: &Device) -> Result<Self, OpenError> {
        Self::open_with(path, &OpenOptions::default(), device)
    }

    /// As [`Self::open`], with what the files do not say or say otherwise.
    ///
    /// # Errors
    /// As [`Self::open`]; and if an option does not fit.
    pub fn open_with(
        path: &Path,
        options: &OpenOptions,
        device: &Device,
    ) -> Result<Self, OpenError> {
        let path = find_model(path)?;
        let loaded = couplet_model::load(&path, options.arch.as_deref(), device)?;
        let ModelSource {
            spec,
            mut preprocess,
            tokenizer,
            weights,
            ..
        } = loaded.source;
        for (key, value) in &options.preprocess {
            preprocess = preprocess.with(key, value)?;
        }
        if let Some((key, message)) = preprocess.problems().into_iter().next() {
            return Err(OpenError::UnsoundPreprocess { key, message });
        }
        let tokens = match open_tokenizer(&tokenizer)? {
            Ok(tokenizer) => Ok(token_options(&spec, tokenizer)?),
            Err(missing) => Err(missing),
        };
        Ok(Self {
            transform: eval_transform(&spec, &preprocess),
            model: loaded.model,
            spec,
            preprocess,
            tokens,
            head: head_of(&weights, device)?,
        })
    }

    /// The same encoder with a classifier.
    #[must_use]
    pub fn with_head(mut self, head: Head) -> Self {
        self.head = Some(head);
        self
    }

    /// The classification head, if the model was fine-tuned.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The model itself.
    pub fn model(&self) -> &Clip {
        &self.model
    }

    /// Its architecture.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// What images go through before the model sees them.
    pub fn preprocess(&self) -> &PreprocessSpec {
        &self.preprocess
    }

    /// How texts become ids.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk.
    pub fn tokens(&self) -> Result<&TokenOptions, MissingTokenizer> {
        self.tokens.as_ref().map_err(Clone::clone)
    }

    /// The transform that images need before [`Self::encode_pixels`].
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// - paths: image files.
    /// - returns image features `[images, embed_dim]`, L2-normalised.
    ///
    /// # Errors
    /// If a file cannot be read or holds no image.
    ///
    /// # Panics
    /// If `paths` is empty.
    pub fn encode_images<P: AsRef<Path> + Sync>(
        &self,
        paths: &[P],
    ) -> Result<Tensor<2>, ImageError> {
        Ok(l2_normalize(self.encode_images_raw(paths)?))
    }

    /// As [`Self::encode_images`], not L2-normalised.
    ///
    /// # Errors
    /// As [`Self::encode_images`].
    ///
    /// # Panics
    /// As [`Self::encode_images`].
    pub fn encode_images_raw<P: AsRef<Path> + Sync>(
        &self,
        paths: &[P],
    ) -> Result<Tensor<2>, ImageError> {
        assert!(!paths.is_empty(), "there is no image to encode");
        let images = paths
            .par_iter()
            .map(|path| self.read_image(path.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.encode_pixels_raw(images.concat()))
    }

    fn read_image(&self, path: &Path) -> Result<Vec<u8>, ImageError> {
        let bytes = fs::read(path).map_err(|source| ImageError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let picture = ImageData::Encoded(bytes);
        labelled::prepare(picture, &self.transform, DEFAULT_MAX_IMAGE_PIXELS).map_err(|fault| {
            ImageError::Unusable {
                path: path.to_path_buf(),
                fault,
            }
        })
    }

    /// - pixels: `[batch, image_size, image_size, 3]`, 8-bit RGB as [`Self::transform`]
    ///   leaves them.
    /// - returns image features `[batch, embed_dim]`, L2-normalised.
    pub fn encode_pixels(&self, pixels: Vec<u8>) -> Tensor<2> {
        l2_normalize(self.encode_pixels_raw(pixels))
    }

    /// As [`Self::encode_pixels`], not L2-normalised.
    pub fn encode_pixels_raw(&self, pixels: Vec<u8>) -> Tensor<2> {
        self.model.encode_image(batch::images(
            pixels,
            self.transform.image_size() as usize,
            self.preprocess.mean,
            self.preprocess.std,
            &self.model.device(),
        ))
    }

    /// - ids: `[texts, length]`, rows first.
    /// - returns text features `[texts, embed_dim]`, not normalised.
    ///
    /// # Panics
    /// If `ids` does not hold a whole number of rows.
    pub fn encode_tokens_raw(&self, ids: Vec<i32>, length: usize) -> Tensor<2> {
        (self.model).encode_text(batch::tokens(ids, length, &self.model.device()))
    }

    /// - returns text features `[texts, embed_dim]`, L2-normalised.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk.
    ///
    /// # Panics
    /// If `texts` is empty.
    pub fn encode_texts<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
    ) -> Result<Tensor<2>, MissingTokenizer> {
        Ok(l2_normalize(self.encode_texts_raw(texts)?))
    }

    /// As [`Self::encode_texts`], not L2-normalised.
    ///
    /// # Errors
    /// As [`Self::encode_texts`].
    ///
    /// # Panics
    /// As [`Self::encode_texts`].
    pub fn encode_texts_raw<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
    ) -> Result<Tensor<2>, MissingTokenizer> {
        assert!(!texts.is_empty(), "there is no text to encode");
        let options = self.tokens()?;
        let features = texts.chunks(TEXT_BATCH).map(|texts| {
            let ids = options
                .tokenizer
                .encode_batch(texts, options.context_length);
            let (tokens, length) = options.pad(&ids);
            self.encode_tokens_raw(tokens, length)
        });
        Ok(Tensor::cat(features.collect(), 0))
    }
}

/// From any image to the square that a model of this spec takes, as in evaluation.
///
/// # Panics
/// If the image size does not fit in 32 bits.
pub fn eval_transform(spec: &ModelSpec, preprocess: &PreprocessSpec) -> Transform {
    let image_size = u32::try_from(spec.image.image_size()).expect("a sound image size");
    let fit = match preprocess.resize_mode {
        ResizeMode::Shortest => couplet_data::ResizeMode::Shortest,
        ResizeMode::Longest => couplet_data::ResizeMode::Longest(preprocess.fill_color),
        ResizeMode::Squash => couplet_data::ResizeMode::Squash,
    };
    let filter = match preprocess.interpolation {
        Interpolation::Bicubic => couplet_data::Interpolation::Bicubic,
        Interpolation::Bilinear => couplet_data::Interpolation::Bilinear,
    };
    Transform::eval(image_size, fit, filter)
}

#[cfg(test)]
mod tests;
