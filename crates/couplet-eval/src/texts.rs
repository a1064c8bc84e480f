//! The texts that images are compared with.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use couplet_data::formats::templates::fill_template;

use crate::classifier::{ClassifierError, class_features, encode_some_texts};
use crate::division::Division;
use crate::encoder::{Encoder, TEXT_BATCH, TextError};
use crate::feature_cache::FeatureCache;

/// The name of a classifier's tensor in a cache file.
pub(crate) const CLASSIFIER: &str = "classifier";

/// What the rows of text features are of.
#[derive(Debug)]
pub(crate) enum Texts<'a> {
    /// A class each: the mean of its prompts.
    Classes {
        class_names: &'a [String],
        templates: Vec<String>,
    },
    /// A caption each.
    Captions(Vec<&'a str>),
}

impl Texts<'_> {
    /// The number of classes or captions.
    pub fn rows(&self) -> usize {
        match self {
            Self::Classes { class_names, .. } => class_names.len(),
            Self::Captions(captions) => captions.len(),
        }
    }

    /// All texts, in the order in which they are encoded.
    pub fn texts(&self) -> Box<dyn Iterator<Item = String> + '_> {
        match self {
            Self::Classes {
                class_names,
                templates,
            } => Box::new(class_names.iter().flat_map(|name| {
                let templates = templates.iter();
                templates.map(move |template| fill_template(template, name))
            })),
            Self::Captions(captions) => Box::new(captions.iter().map(ToString::to_string)),
        }
    }

    /// The rows that a rank computes.
    pub fn share(&self, division: &dyn Division, rank: usize) -> Range<usize> {
        match self {
            Self::Classes {
                class_names,
                templates,
            } => {
                // The classes whose first prompt is in the rank's batches of prompts.
                let each = templates.len();
                let prompts = division.share(rank, class_names.len() * each, TEXT_BATCH);
                prompts.start.div_ceil(each)..prompts.end.div_ceil(each)
            }
            Self::Captions(captions) => division.share(rank, captions.len(), TEXT_BATCH),
        }
    }

    /// Computes the features of some rows, at least one.
    /// - returns `[rows, embed_dim]`, L2-normalized, with the same bits whichever rows are computed.
    pub fn encode(
        &self,
        encoder: &Encoder,
        rows: Range<usize>,
    ) -> Result<Tensor<2>, ClassifierError> {
        match self {
            Self::Classes {
                class_names,
                templates,
            } => class_features(encoder, class_names, templates, rows),
            Self::Captions(captions) => {
                let count = captions.len();
                encode_some_texts(encoder, |at| captions[at], count, rows)
            }
        }
    }

    /// The key of the features in a cache; `None` if they are not cached.
    pub fn key(
        &self,
        encoder: &Encoder,
        cache: &FeatureCache,
    ) -> Result<Option<u64>, ClassifierError> {
        let Self::Classes { class_names, .. } = self else {
            return Ok(None);
        };
        let tokens = encoder.tokens().map_err(TextError::from)?;
        // The key depends on the tokenizer through the texts' ids.
        let ids = self.texts().map(|text| {
            let ids = tokens.encode(&text);
            ids.map_err(|error| TextError::not_encoded(&text, error))
        });
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(cache.text_key(encoder, class_names.len(), &ids)))
    }

    /// The features of all rows, `[rows, embed_dim]`, L2-normalized, from the cache if they are there;
    /// else they are written to it.
    pub fn features(
        &self,
        encoder: &Encoder,
        cache: Option<&FeatureCache>,
    ) -> Result<Tensor<2>, ClassifierError> {
        let key = match cache {
            Some(cache) => self.key(encoder, cache)?.map(|key| (cache, key)),
            None => None,
        };
        let shape = [self.rows(), encoder.spec().embed_dim];
        if let Some((cache, key)) = key
            && let Some(values) = cache.read(key, CLASSIFIER, shape)
        {
            let data = TensorData::new(values, shape);
            return Ok(Tensor::from_data(data, &encoder.model().device()));
        }
        let features = self.encode(encoder, 0..self.rows())?;
        if let Some((cache, key)) = key {
            let values = features.clone().into_data();
            let values: Vec<f32> = values.try_to_vec().expect("features are f32");
            cache.write(key, CLASSIFIER, shape, &values);
        }
        Ok(features)
    }
}
