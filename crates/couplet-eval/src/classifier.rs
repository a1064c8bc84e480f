//! Zero-shot classifiers, built from prompts.
//!
//! Source: Radford et al. 2021, section 3.1.4; open_clip `build_zero_shot_classifier`.

use std::ops::Range;

use burn::tensor::Tensor;
use couplet_data::formats::templates::fill_template;
use couplet_kernels::matmul;
use couplet_model::l2_normalize;

use crate::encoder::{Encoder, TEXT_BATCH, TextError};
use crate::feature_error::NotFinite;

/// Why a classifier could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

/// One text feature per class: the mean of its prompts' features, L2-normalized.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// `[classes, embed_dim]`, L2-normalized.
    weights: Tensor<2>,
}

impl Classifier {
    /// Encodes every class name in every template.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk, or features are not finite.
    ///
    /// # Panics
    /// If there are no classes or no templates.
    pub fn new(
        encoder: &Encoder,
        class_names: &[String],
        templates: &[String],
    ) -> Result<Self, ClassifierError> {
        let all = 0..class_names.len();
        let weights = class_features(encoder, class_names, templates, all)?;
        Ok(Self { weights })
    }

    /// - weights: `[classes, embed_dim]`, as [`class_features`] returns them.
    pub(crate) fn of_weights(weights: Tensor<2>) -> Self {
        Self { weights }
    }

    /// - image_features: `[batch, embed_dim]`, L2-normalized.
    /// - returns cosine similarities `[batch, classes]`.
    pub fn scores(&self, image_features: Tensor<2>) -> Tensor<2> {
        matmul(image_features, self.weights.clone().transpose())
    }

    /// The classifier's weights, `[classes, embed_dim]`, L2-normalized.
    pub fn into_weights(self) -> Tensor<2> {
        self.weights
    }
}

/// The features of neighbouring classes, each the mean of those of its prompts, L2-normalized.
/// - classes: those of `class_names` to compute.
/// - returns `[classes, embed_dim]`, with the same bits as if all were computed.
///
/// # Panics
/// If there are no classes or no templates.
pub(crate) fn class_features(
    encoder: &Encoder,
    class_names: &[String],
    templates: &[String],
    classes: Range<usize>,
) -> Result<Tensor<2>, ClassifierError> {
    let prompts = classes.start * templates.len()..classes.end * templates.len();
    let text = |at: usize| {
        fill_template(
            &templates[at % templates.len()],
            &class_names[at / templates.len()],
        )
    };
    let count = class_names.len() * templates.len();
    let features = encode_some_texts(encoder, text, count, prompts)?;
    let embed_dim = features.dims()[1];
    let mean = features
        .reshape([classes.len(), templates.len(), embed_dim])
        .mean_dim(1)
        .squeeze_dim::<2>(1);
    Ok(l2_normalize(mean))
}

/// Encodes neighbouring texts.
/// - text: the text of a row, of `count`; rows: those to encode, at least one.
/// - returns finite text features `[rows, embed_dim]`, L2-normalized, with the same bits as if all were
///   encoded: the model gets the batches that hold the rows.
pub(crate) fn encode_some_texts<T: AsRef<str> + Sync>(
    encoder: &Encoder,
    text: impl Fn(usize) -> T,
    count: usize,
    rows: Range<usize>,
) -> Result<Tensor<2>, ClassifierError> {
    let first = rows.start - rows.start % TEXT_BATCH;
    let end = rows.end.next_multiple_of(TEXT_BATCH).min(count);
    let texts: Vec<T> = (first..end).map(text).collect();
    let features = encoder.encode_texts_raw(&texts)?;
    let features = features.narrow(0, rows.start - first, rows.len());
    let values = features.clone().into_data();
    let values: Vec<f32> = values.try_to_vec().expect("features are f32");
    let name = |row: usize| format!("`{}`", texts[rows.start - first + row].as_ref());
    NotFinite::check("texts", &values, features.dims()[1], name)?;
    Ok(l2_normalize(features))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};
    use couplet_data::Tokenizer;
    use couplet_model::{Clip, PreprocessSpec, presets};

    #[test]
    fn a_class_is_the_mean_of_its_normalized_templates() {
        let device = Device::flex();
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        let model = Clip::init(&spec, 0, &device);
        let encoder =
            Encoder::new(model, &spec, &PreprocessSpec::default(), Tokenizer::clip()).unwrap();
        let names = ["dog".to_string(), "cat".to_string()];
        let templates = ["a {c}".to_string(), "the {}".to_string()];
        let classifier = Classifier::new(&encoder, &names, &templates).unwrap();
        let cat = encoder
            .encode_texts(&["a cat", "the cat"])
            .unwrap()
            .sum_dim(0);
        let expected = l2_normalize(cat);
        let row = classifier
            .weights
            .select(0, Tensor::<1, Int>::from_ints([1], &device));
        let gap: f32 = (row - expected).abs().max().into_scalar();
        assert!(gap < 1e-6, "{gap}");
    }
}
