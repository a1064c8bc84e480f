//! Zero-shot classifiers, built from prompts.
//!
//! Source: Radford et al. 2021, section 3.1.4; open_clip `build_zero_shot_classifier`.

use burn::tensor::{Tensor, TensorData};
use couplet_data::formats::templates::fill_template;
use couplet_model::l2_normalize;

use crate::encoder::{Encoder, TextError};
use crate::feature_cache::FeatureCache;
use crate::feature_error::NotFinite;

/// The name of a classifier's tensor in a cache file.
const CLASSIFIER: &str = "classifier";

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
        let texts: Vec<String> = texts_of(class_names, templates).collect();
        let features = encode_texts(encoder, &texts)?;
        let embed_dim = features.dims()[1];
        let mean = features
            .reshape([class_names.len(), templates.len(), embed_dim])
            .mean_dim(1)
            .squeeze_dim::<2>(1);
        Ok(Self {
            weights: l2_normalize(mean),
        })
    }

    /// As [`Self::new`], but reads the classifier from the cache, or writes it there.
    pub(crate) fn cached(
        encoder: &Encoder,
        class_names: &[String],
        templates: &[String],
        cache: Option<&FeatureCache>,
    ) -> Result<Self, ClassifierError> {
        let Some(cache) = cache else {
            return Self::new(encoder, class_names, templates);
        };
        let tokens = encoder.tokens().map_err(TextError::from)?;
        // The key depends on the tokenizer through the texts' ids.
        let ids = texts_of(class_names, templates)
            .map(|text| {
                let ids = tokens.encode(&text);
                ids.map_err(|error| TextError::not_encoded(&text, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let key = cache.text_key(encoder, class_names.len(), &ids);
        let embed_dim = encoder.spec().embed_dim;
        let shape = [class_names.len(), embed_dim];
        if let Some(values) = cache.read(key, CLASSIFIER, shape) {
            let data = TensorData::new(values, shape);
            let weights = Tensor::from_data(data, &encoder.model().device());
            return Ok(Self { weights });
        }
        let classifier = Self::new(encoder, class_names, templates)?;
        let weights = classifier.weights.clone().into_data();
        let weights: Vec<f32> = weights.try_to_vec().expect("classifiers are f32");
        cache.write(key, CLASSIFIER, shape, &weights);
        Ok(classifier)
    }

    /// - image_features: `[batch, embed_dim]`, L2-normalized.
    /// - returns cosine similarities `[batch, classes]`.
    pub fn scores(&self, image_features: Tensor<2>) -> Tensor<2> {
        image_features.matmul(self.weights.clone().transpose())
    }

    /// The classifier's weights, `[classes, embed_dim]`, L2-normalized.
    pub fn into_weights(self) -> Tensor<2> {
        self.weights
    }
}

/// Encodes texts.
/// - returns finite text features `[texts, embed_dim]`, L2-normalized.
pub(crate) fn encode_texts<T: AsRef<str> + Sync>(
    encoder: &Encoder,
    texts: &[T],
) -> Result<Tensor<2>, ClassifierError> {
    let features = encoder.encode_texts_raw(texts)?;
    let values = features.clone().into_data();
    let values: Vec<f32> = values.try_to_vec().expect("features are f32");
    let name = |row: usize| format!("`{}`", texts[row].as_ref());
    NotFinite::check("texts", &values, features.dims()[1], name)?;
    Ok(l2_normalize(features))
}

/// Every class name in every template, class by class.
fn texts_of(class_names: &[String], templates: &[String]) -> impl Iterator<Item = String> {
    class_names.iter().flat_map(|name| {
        templates
            .iter()
            .map(move |template| fill_template(template, name))
    })
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
