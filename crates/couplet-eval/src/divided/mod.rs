//! Features that the ranks of a run compute together.
//!
//! There are two exchanges, whatever happens between them: whether all can evaluate, and the same; then the
//! features. An error before an exchange is exchanged.

use std::hash::Hasher;
use std::ops::Range;

use couplet_data::labelled::Targets;
use couplet_data::{Fingerprint, with_causes};
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::division::{Division, DivisionError, append_values, other_program, read_values};
use crate::encoder::Encoder;
use crate::feature_cache::FeatureCache;
use crate::features::{Features, IMAGE_BATCH, IMAGE_FEATURES};
use crate::protocol::{EvalError, EvalOptions};
use crate::texts::{CLASSIFIER, Texts};

/// What a rank is about to evaluate.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    images: usize,
    /// Digests of the images' targets and of the texts.
    targets: u64,
    texts: u64,
    /// Which features rank 0 has in its cache: those of the texts, then the images'.
    is_cached: Vec<bool>,
}

/// Features that are computed, or come from rank 0's cache.
struct Wanted<'a> {
    /// `None` for the images.
    texts: Option<&'a Texts<'a>>,
    rows: usize,
    key: Option<u64>,
    /// `[rows, embed_dim]`, if they are in the cache.
    found: Option<Vec<f32>>,
}

/// Computes this rank's share of a dataset's features, and gets those of the others.
/// - returns the features of all images, and for each of `texts` `[rows, embed_dim]`, with the bits that one
///   rank computes.
pub(crate) fn read_divided(
    division: &dyn Division,
    encoder: &Encoder,
    dataset: &Dataset,
    texts: Result<&[Texts], &EvalError>,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<(Features, Vec<Vec<f32>>), EvalError> {
    // The caches of ranks may hold different features, and one of them is enough.
    let cache = options.cache.filter(|_| division.rank() == 0);
    let found = texts.map_err(|error| with_causes(error)).and_then(|texts| {
        let found = look_up(encoder, dataset, texts, options.max_image_pixels, cache);
        found.map_err(|error| with_causes(&error))
    });
    // Before hours of encoding: whether any rank cannot.
    let task = found.as_ref().map(|wanted| task(dataset, wanted));
    let tasks = division.gather_results(task.map_err(Clone::clone))?;
    let is_cached = agree(&tasks, &dataset.name)?;
    let mut wanted = found.map_err(EvalError::Features)?;

    let shares = |wanted: &[Wanted], rank: usize| -> Vec<Range<usize>> {
        let each = wanted.iter().zip(&is_cached);
        each.map(|(one, is_cached)| match one.texts {
            _ if *is_cached && rank == 0 => 0..one.rows,
            _ if *is_cached => one.rows..one.rows,
            Some(texts) => texts.share(division, rank),
            None => division.share(rank, one.rows, IMAGE_BATCH),
        })
        .collect()
    };
    let own = shares(&wanted, division.rank());
    let own = compute(encoder, dataset, &mut wanted, &own, options, progress);
    let parts = division.gather_results(own.map_err(|error| with_causes(&error)))?;

    let embed_dim = encoder.spec().embed_dim;
    let mut all: Vec<Vec<f32>> = (wanted.iter())
        .map(|one| Vec::with_capacity(one.rows * embed_dim))
        .collect();
    for (rank, part) in parts.into_iter().enumerate() {
        let shares = shares(&wanted, rank);
        if part.len() != message_len(&shares, embed_dim) {
            return Err(other_program(rank).into());
        }
        let mut rest = &part[..];
        for (values, share) in all.iter_mut().zip(shares) {
            let (own, after) = rest.split_at(share.len() * embed_dim * 4);
            values.extend(read_values(own));
            rest = after;
        }
    }
    for ((one, values), is_cached) in wanted.iter().zip(&all).zip(&is_cached) {
        if let (Some(cache), Some(key), false) = (cache, one.key, is_cached) {
            cache.write(key, one.name(), [one.rows, embed_dim], values);
        }
    }
    let values = all.pop().unwrap_or_default();
    Ok((Features { values, embed_dim }, all))
}

impl Wanted<'_> {
    /// The tensor's name in a cache file.
    fn name(&self) -> &'static str {
        match self.texts {
            Some(_) => CLASSIFIER,
            None => IMAGE_FEATURES,
        }
    }
}

/// What is wanted: the features of the texts, then the images'. Those in the cache are read, because their
/// file may be gone later.
fn look_up<'a>(
    encoder: &Encoder,
    dataset: &Dataset,
    texts: &'a [Texts<'a>],
    max_image_pixels: u64,
    cache: Option<&FeatureCache>,
) -> Result<Vec<Wanted<'a>>, EvalError> {
    if !texts.is_empty() {
        encoder.tokens()?;
    }
    let mut wanted = Vec::with_capacity(texts.len() + 1);
    for texts in texts.iter().map(Some).chain([None]) {
        let key = match (cache, texts) {
            (Some(cache), Some(texts)) => texts.key(encoder, cache)?,
            (Some(cache), None) => cache.image_key(encoder, &dataset.images, max_image_pixels),
            (None, _) => None,
        };
        let mut one = Wanted {
            texts,
            rows: texts.map_or(dataset.images.len(), Texts::rows),
            key,
            found: None,
        };
        if let (Some(cache), Some(key)) = (cache, key) {
            one.found = cache.read(key, one.name(), [one.rows, encoder.spec().embed_dim]);
        }
        wanted.push(one);
    }
    Ok(wanted)
}

fn task(dataset: &Dataset, wanted: &[Wanted]) -> Vec<u8> {
    let mut texts = Fingerprint::new("texts");
    for one in wanted.iter().filter_map(|one| one.texts) {
        texts.write_usize(one.rows());
        one.texts().for_each(|text| texts.write_text(&text));
    }
    let mut targets = Fingerprint::new("targets");
    match dataset.images.targets() {
        Targets::Classes(labels) => labels.iter().for_each(|label| targets.write_usize(*label)),
        Targets::MultiLabel(rows) => rows
            .iter()
            .flatten()
            .for_each(|label| targets.write_u8((*label).into())),
        // They are the texts; here, how many each image has.
        Targets::Captions(captions) => captions
            .iter()
            .for_each(|captions| targets.write_usize(captions.len())),
    }
    let task = Task {
        images: dataset.images.len(),
        targets: targets.finish(),
        texts: texts.finish(),
        is_cached: wanted.iter().map(|one| one.found.is_some()).collect(),
    };
    serde_json::to_vec(&task).expect("numbers serialize as JSON")
}

/// Checks that all ranks evaluate the same.
/// - returns which features rank 0 has in its cache.
fn agree(tasks: &[Vec<u8>], dataset: &str) -> Result<Vec<bool>, DivisionError> {
    let mut first: Option<Task> = None;
    for (rank, task) in tasks.iter().enumerate() {
        let task: Task = serde_json::from_slice(task).map_err(|_| other_program(rank))?;
        let Some(first) = &first else {
            first = Some(task);
            continue;
        };
        let what = if task.images != first.images {
            "the number of images"
        } else if task.targets != first.targets {
            "the target of an image"
        } else if task.texts != first.texts {
            "a text"
        } else {
            continue;
        };
        let what = format!("{what} of `{dataset}`");
        return Err(DivisionError::Differs { rank, what });
    }
    Ok(first.map(|task| task.is_cached).unwrap_or_default())
}

fn message_len(shares: &[Range<usize>], embed_dim: usize) -> usize {
    shares.iter().map(ExactSizeIterator::len).sum::<usize>() * embed_dim * 4
}

/// Computes the rows of each share, or takes them from what was found.
/// - returns their values, one after the other.
fn compute(
    encoder: &Encoder,
    dataset: &Dataset,
    wanted: &mut [Wanted],
    shares: &[Range<usize>],
    options: EvalOptions,
    mut progress: impl FnMut(usize),
) -> Result<Vec<u8>, EvalError> {
    let (images, max_pixels) = (&dataset.images, options.max_image_pixels);
    let mut message = Vec::with_capacity(message_len(shares, encoder.spec().embed_dim) + 1);
    for (one, share) in wanted.iter_mut().zip(shares) {
        let values = match (one.found.take(), one.texts) {
            _ if share.is_empty() => Vec::new(),
            (Some(values), _) => values,
            (None, Some(texts)) => {
                let features = texts.encode(encoder, share.clone())?.into_data();
                features.try_to_vec().expect("features are f32")
            }
            (None, None) => {
                let (first, own) = (share.start, share.len());
                let estimate = |end: usize| progress((end - first) * images.len() / own);
                let share = share.clone();
                Features::encode_some(encoder, images, share, max_pixels, estimate)?.values
            }
        };
        append_values(&mut message, &values);
    }
    progress(images.len());
    Ok(message)
}

#[cfg(test)]
mod tests;
