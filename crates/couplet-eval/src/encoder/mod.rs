//! Joins model, transform and tokenizer; the only place that does.

mod chosen;
mod error;
mod files;
mod run_folder;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use couplet_data::formats::read_image;
use couplet_data::loader::TokenOptions;
use couplet_data::{DEFAULT_MAX_IMAGE_PIXELS, ImageData, Tokenizer, Transform, batch, labelled};
use couplet_model::{
    Clip, CropRounding, Interpolation, ModelSource, ModelSpec, Precision, PreprocessSpec,
    ResizeMode, l2_normalize,
};
use rayon::prelude::*;

pub use chosen::{Choice, ChosenCheckpoint, ChosenModel};
pub use error::{ImageError, MissingTokenizer, OpenError, TextError};
use files::head_of;
pub use files::{
    EMA_HEAD_FILE, EMA_WEIGHTS_FILE, EVAL_WEIGHTS_FILE, HEAD_FILE, Head, choose_model, find_model,
};
pub use run_folder::{
    CHECKPOINTS_FOLDER, FINDINGS_FOLDER, Pointer, TRAINER_STATE_FILE, checkpoint_name,
    checkpoint_step, checkpoints_of, is_checkpoint, read_pointer,
};
pub use tokens::{open_tokenizer, token_options, token_warnings};

/// Texts that are encoded at once.
pub(crate) const TEXT_BATCH: usize = 256;

/// A model that encodes images and texts.
#[derive(Debug, Clone)]
pub struct Encoder {
    model: Clip,
    spec: ModelSpec,
    preprocess: PreprocessSpec,
    transform: Transform,
    tokens: Result<TokenOptions, MissingTokenizer>,
    head: Option<Head>,
    weights: Option<PathBuf>,
    checkpoint: Option<ChosenCheckpoint>,
}

/// Options for opening a model.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// A preset's name or an open_clip config file, for weights that do not name their architecture.
    pub arch: Option<String>,
    /// Keys and values that override those of the model's preprocessing.
    pub preprocess: Vec<(String, String)>,
    /// The dtype of the towers' matrix products. Features are f32 in any case.
    pub precision: Precision,
}

impl Encoder {
    /// Joins a model with a tokenizer and the transform that its specs describe.
    ///
    /// # Errors
    /// If the tokenizer has more ids than the model's vocabulary.
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
            weights: None,
            checkpoint: None,
        })
    }

    /// Opens a run's folder (its best checkpoint, else its latest), a checkpoint, an open_clip or
    /// Hugging Face folder, or a file of weights.
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

    /// As [`Self::open`], with options that complete or override what the files say.
    ///
    /// # Errors
    /// As [`Self::open`], and if an option is invalid.
    pub fn open_with(
        path: &Path,
        options: &OpenOptions,
        device: &Device,
    ) -> Result<Self, OpenError> {
        let ChosenModel { path, checkpoint } = choose_model(path)?;
        let precision = options.precision;
        if !precision.is_supported(device) {
            return Err(OpenError::Precision { precision });
        }
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
        let problems = preprocess.problems(spec.image.image_size());
        if let Some((key, message)) = problems.into_iter().next() {
            return Err(OpenError::UnsoundPreprocess { key, message });
        }
        let tokens = match open_tokenizer(&tokenizer)? {
            Ok(tokenizer) => Ok(token_options(&spec, tokenizer)?),
            Err(missing) => Err(missing),
        };
        Ok(Self {
            transform: eval_transform(&spec, &preprocess),
            model: loaded.model.with_precision(precision),
            spec,
            preprocess,
            tokens,
            head: head_of(&weights, device)?,
            weights: Some(weights),
            checkpoint,
        })
    }

    /// The same with other weights, which are of no file, and without a head.
    #[must_use]
    pub fn with_model(&self, model: Clip) -> Self {
        Self {
            model: model.with_precision(self.model.precision()),
            head: None,
            weights: None,
            checkpoint: None,
            ..self.clone()
        }
    }

    /// Adds a classification head.
    #[must_use]
    pub fn with_head(mut self, head: Head) -> Self {
        self.head = Some(head);
        self
    }

    /// The classification head, if the model was fine-tuned.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The file of weights that was opened, in a run's folder that of the checkpoint that was chosen.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// The checkpoint that was chosen, and why, if a run's folder was opened.
    pub fn checkpoint(&self) -> Option<&ChosenCheckpoint> {
        self.checkpoint.as_ref()
    }

    /// The model.
    pub fn model(&self) -> &Clip {
        &self.model
    }

    /// The model's architecture.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The preprocessing of images.
    pub fn preprocess(&self) -> &PreprocessSpec {
        &self.preprocess
    }

    /// How texts are tokenized.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk.
    pub fn tokens(&self) -> Result<&TokenOptions, MissingTokenizer> {
        self.tokens.as_ref().map_err(Clone::clone)
    }

    /// The transform of images that [`Self::encode_pixels`] expects.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// Encodes image files.
    /// - returns image features `[images, embed_dim]`, L2-normalized.
    ///
    /// # Errors
    /// If a file cannot be read or is not an image.
    ///
    /// # Panics
    /// If `paths` is empty.
    pub fn encode_images<P: AsRef<Path> + Sync>(
        &self,
        paths: &[P],
    ) -> Result<Tensor<2>, ImageError> {
        Ok(l2_normalize(self.encode_images_raw(paths)?))
    }

    /// As [`Self::encode_images`], without L2 normalization.
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
        let images: Result<Vec<_>, _> = self.read_images(paths).into_iter().collect();
        Ok(self.encode_pixels_raw(images?.concat()))
    }

    /// Reads and transforms image files in parallel.
    /// - returns, for each file, `[image_size, image_size, 3]` as [`Self::encode_pixels`] expects them, or
    ///   why it cannot be used.
    pub fn read_images<P: AsRef<Path> + Sync>(
        &self,
        paths: &[P],
    ) -> Vec<Result<Vec<u8>, ImageError>> {
        let paths = paths.par_iter();
        paths.map(|path| self.read_image(path.as_ref())).collect()
    }

    fn read_image(&self, path: &Path) -> Result<Vec<u8>, ImageError> {
        let bytes = read_image(path).map_err(ImageError::Unreadable)?;
        let data = ImageData::Encoded(bytes);
        labelled::prepare(data, &self.transform, DEFAULT_MAX_IMAGE_PIXELS).map_err(|error| {
            ImageError::Unusable {
                path: path.to_path_buf(),
                error,
            }
        })
    }

    /// Encodes transformed images.
    /// - pixels: `[batch, image_size, image_size, 3]`, 8-bit RGB, as [`Self::transform`] outputs them.
    /// - returns image features `[batch, embed_dim]`, L2-normalized.
    pub fn encode_pixels(&self, pixels: Vec<u8>) -> Tensor<2> {
        l2_normalize(self.encode_pixels_raw(pixels))
    }

    /// As [`Self::encode_pixels`], without L2 normalization.
    pub fn encode_pixels_raw(&self, pixels: Vec<u8>) -> Tensor<2> {
        self.model.encode_image(batch::images(
            pixels,
            self.transform.image_size() as usize,
            self.preprocess.mean,
            self.preprocess.std,
            &self.model.device(),
        ))
    }

    /// Encodes token ids.
    /// - ids: `[texts, length]`, row-major.
    /// - returns text features `[texts, embed_dim]`, not normalized.
    ///
    /// # Panics
    /// If `ids` does not hold a whole number of rows.
    pub fn encode_tokens_raw(&self, ids: Vec<i32>, length: usize) -> Tensor<2> {
        (self.model).encode_text(batch::tokens(ids, length, &self.model.device()))
    }

    /// Encodes texts.
    /// - returns text features `[texts, embed_dim]`, L2-normalized.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk, or has no ids for a text.
    ///
    /// # Panics
    /// If `texts` is empty.
    pub fn encode_texts<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Tensor<2>, TextError> {
        Ok(l2_normalize(self.encode_texts_raw(texts)?))
    }

    /// As [`Self::encode_texts`], without L2 normalization.
    ///
    /// # Errors
    /// As [`Self::encode_texts`].
    ///
    /// # Panics
    /// As [`Self::encode_texts`].
    pub fn encode_texts_raw<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
    ) -> Result<Tensor<2>, TextError> {
        assert!(!texts.is_empty(), "there is no text to encode");
        let options = self.tokens()?;
        let features = texts.chunks(TEXT_BATCH).map(|texts| {
            let encoded = (options.tokenizer).encode_batch(texts, options.context_length);
            let ids =
                encoded.map_err(|(at, error)| TextError::not_encoded(texts[at].as_ref(), error))?;
            Ok(self.encode_ids_raw(options, &ids))
        });
        let features = features.collect::<Result<Vec<_>, TextError>>()?;
        Ok(Tensor::cat(features, 0))
    }

    /// Encodes the texts that the tokenizer can encode.
    /// - returns text features `[usable texts, embed_dim]`, not normalized (`None` if no text is usable),
    ///   and whether each text is usable.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk.
    pub fn encode_usable_texts_raw<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
    ) -> Result<(Option<Tensor<2>>, Vec<bool>), MissingTokenizer> {
        let options = self.tokens()?;
        let ids_of = |text: &T| {
            options
                .encode(text.as_ref())
                .ok()
                .filter(|ids| !ids.is_empty())
        };
        let all: Vec<Option<Vec<u32>>> = texts.par_iter().map(ids_of).collect();
        let is_usable = all.iter().map(Option::is_some).collect();
        let usable: Vec<Vec<u32>> = all.into_iter().flatten().collect();
        let features = usable.chunks(TEXT_BATCH);
        let features = features.map(|ids| self.encode_ids_raw(options, ids));
        let features = features.reduce(|all, some| Tensor::cat(vec![all, some], 0));
        Ok((features, is_usable))
    }

    fn encode_ids_raw(&self, options: &TokenOptions, ids: &[Vec<u32>]) -> Tensor<2> {
        let (tokens, length) = options.pad(ids);
        self.encode_tokens_raw(tokens, length)
    }
}

/// The evaluation transform of a model: from images of any size to its square input.
///
/// # Panics
/// If the image size does not fit in 32 bits, or the preprocessing has problems with it.
pub fn eval_transform(spec: &ModelSpec, preprocess: &PreprocessSpec) -> Transform {
    let image_size =
        u32::try_from(spec.image.image_size()).expect("the image size fits in 32 bits");
    let fit = match preprocess.resize_mode {
        ResizeMode::Shortest => couplet_data::ResizeMode::Shortest,
        ResizeMode::Longest => couplet_data::ResizeMode::Longest(preprocess.fill_color),
        ResizeMode::Squash => couplet_data::ResizeMode::Squash,
    };
    let filter = match preprocess.interpolation {
        Interpolation::Bicubic => couplet_data::Interpolation::Bicubic,
        Interpolation::Bilinear => couplet_data::Interpolation::Bilinear,
        Interpolation::Nearest => couplet_data::Interpolation::Nearest,
        Interpolation::Box => couplet_data::Interpolation::Box,
        Interpolation::Hamming => couplet_data::Interpolation::Hamming,
        Interpolation::Lanczos => couplet_data::Interpolation::Lanczos,
    };
    let rounding = match preprocess.crop_rounding {
        CropRounding::HalfEven => couplet_data::CropRounding::HalfEven,
        CropRounding::Down => couplet_data::CropRounding::Down,
    };
    let resize_size = preprocess.resize_size.unwrap_or(image_size);
    Transform::eval(image_size, fit, filter).with_center_crop(resize_size, rounding)
}

#[cfg(test)]
mod tests;
