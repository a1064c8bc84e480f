//! Compositional sets: whether a model knows which caption, or which image, belongs to the other.
//!
//! Source: Hsieh et al. 2023 (SugarCrepe) and its `main_eval.py`; Thrush et al. 2022 (Winoground), section 3.2.

use std::collections::HashMap;

use burn::tensor::Tensor;
use couplet_data::labelled::{CompositionalKind, CompositionalSet};
use couplet_model::l2_normalize;

use crate::encoder::{Encoder, TextError};
use crate::features::Features;
use crate::metric::{
    ACCURACY, EXAMPLES, GROUP_SCORE, IMAGE_SCORE, MACRO_ACCURACY, Metrics, TEXT_SCORE,
};
use crate::protocol::{EvalError, EvalOptions};
use crate::report::{Protocol, Report};
use crate::texts::Texts;

/// The results of a compositional set.
#[derive(Debug, Clone, PartialEq)]
pub struct Compositional {
    pub report: Report,
    /// The metrics of each category, in the order of their first examples.
    pub categories: Vec<(String, Metrics)>,
}

/// Compares images and captions by their cosine similarities.
///
/// A SugarCrepe example counts if its image is nearer to the caption than to the negative one. A Winoground example
/// counts for the text score if each image is nearer to its own caption, for the image score if each caption is nearer to
/// its own image, and for the group score if it counts for both. Equal similarities never count, and texts
/// that have the same tokens are equal.
/// - name: of the set in the report; progress: called with the number of images that are done.
///
/// # Errors
/// If images cannot be used, features are not finite, or the model's tokenizer is not on disk.
///
/// # Panics
/// If the device fails.
pub fn compositional(
    encoder: &Encoder,
    name: &str,
    set: &CompositionalSet,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Compositional, EvalError> {
    let (texts, captions) = distinct_texts(encoder, set)?;
    let texts = Texts::Captions(texts).features(encoder, None)?;
    let max_pixels = options.max_image_pixels;
    let images = Features::cached(encoder, &set.images, max_pixels, options.cache, progress)?;
    let width = images.embed_dim;
    let images = values(l2_normalize(images.tensor(&encoder.model().device())));
    let texts = values(texts);
    let examples = set.examples.iter().zip(&captions);
    let outcomes = examples.map(|(example, captions)| {
        let similarities = example.images.map(|image| {
            let image = &images[image * width..(image + 1) * width];
            captions.map(|caption| dot(image, &texts[caption * width..(caption + 1) * width]))
        });
        Outcome::of(set.kind, similarities)
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let categories = by_category(set, &outcomes);
    let mut metrics = metrics_of(set.kind, &outcomes);
    if set.kind == CompositionalKind::SugarCrepe && !categories.is_empty() {
        metrics
            .0
            .push(MACRO_ACCURACY.of(mean_accuracy(&categories)));
    }
    Ok(Compositional {
        report: Report {
            dataset: name.to_string(),
            protocol: Protocol::Compositional,
            metrics,
            images: set.images.len(),
            targets: 2 * set.examples.len(),
            skipped: 0,
        },
        categories,
    })
}

/// The texts of all examples, each sequence of tokens once, because a text's features may differ in their last bits with
/// the batch that it is in; and for each example the places of its captions among them.
fn distinct_texts<'a>(
    encoder: &Encoder,
    set: &'a CompositionalSet,
) -> Result<(Vec<&'a str>, Vec<[usize; 2]>), EvalError> {
    let tokens = encoder.tokens().map_err(TextError::from)?;
    let mut places: HashMap<Vec<u32>, usize> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut captions = Vec::with_capacity(set.examples.len());
    for example in &set.examples {
        let mut own = [0; 2];
        for (place, text) in own.iter_mut().zip(&example.captions) {
            let ids = tokens.encode(text);
            let ids = ids.map_err(|error| TextError::not_encoded(text, error))?;
            *place = *places.entry(ids).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            });
        }
        captions.push(own);
    }
    Ok((texts, captions))
}

fn values(features: Tensor<2>) -> Vec<f32> {
    let values = features.into_data();
    values.try_to_vec().expect("features are f32")
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// What an example counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    /// Each image is nearer to its own caption.
    text: bool,
    /// Each caption is nearer to its own image; never of SugarCrepe.
    image: bool,
}

impl Outcome {
    /// - similarities: by image and caption.
    fn of(kind: CompositionalKind, similarities: [[f64; 2]; 2]) -> Self {
        let [[own, other], [second_other, second_own]] = similarities;
        match kind {
            CompositionalKind::SugarCrepe => Self {
                text: own > other,
                image: false,
            },
            CompositionalKind::Winoground => Self {
                text: own > other && second_own > second_other,
                image: own > second_other && second_own > other,
            },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn metrics_of(kind: CompositionalKind, outcomes: &[Outcome]) -> Metrics {
    let count = outcomes.len() as f64;
    let share = |counts: fn(&Outcome) -> bool| {
        outcomes.iter().filter(|one| counts(one)).count() as f64 / count.max(1.0)
    };
    let examples = EXAMPLES.of(count);
    let text = share(|one| one.text);
    Metrics(match kind {
        CompositionalKind::SugarCrepe => vec![examples, ACCURACY.of(text)],
        CompositionalKind::Winoground => vec![
            examples,
            TEXT_SCORE.of(text),
            IMAGE_SCORE.of(share(|one| one.image)),
            GROUP_SCORE.of(share(|one| one.text && one.image)),
        ],
    })
}

/// The metrics of each category; examples without one are left out.
fn by_category(set: &CompositionalSet, outcomes: &[Outcome]) -> Vec<(String, Metrics)> {
    let mut groups: Vec<(&str, Vec<Outcome>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (example, outcome) in set.examples.iter().zip(outcomes) {
        let Some(category) = example.category.as_deref() else {
            continue;
        };
        let at = *places.entry(category).or_insert_with(|| {
            groups.push((category, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(*outcome);
    }
    let groups = groups.into_iter();
    groups
        .map(|(category, own)| (category.to_string(), metrics_of(set.kind, &own)))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a small number of categories")]
fn mean_accuracy(categories: &[(String, Metrics)]) -> f64 {
    let accuracies = categories
        .iter()
        .filter_map(|(_, metrics)| metrics.get(ACCURACY.name));
    accuracies.sum::<f64>() / categories.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    use burn::tensor::Device;
    use couplet_data::Tokenizer;
    use couplet_data::labelled::CompositionalKind::{SugarCrepe, Winoground};
    use couplet_data::labelled::CompositionalOptions;
    use couplet_model::{Clip, PreprocessSpec, presets};

    fn outcome(kind: CompositionalKind, similarities: [[f64; 2]; 2]) -> [bool; 2] {
        let found = Outcome::of(kind, similarities);
        [found.text, found.image]
    }

    #[test]
    fn equal_similarities_never_count() {
        assert_eq!(outcome(SugarCrepe, [[0.3, 0.2]; 2]), [true, false]);
        assert_eq!(outcome(SugarCrepe, [[0.2, 0.2]; 2]), [false, false]);
        assert_eq!(outcome(SugarCrepe, [[0.1, 0.2]; 2]), [false, false]);
        // Rows are images, columns captions.
        assert_eq!(outcome(Winoground, [[0.4, 0.3], [0.2, 0.5]]), [true, true]);
        // Each image prefers its caption, but both captions prefer the second image.
        assert_eq!(outcome(Winoground, [[0.2, 0.1], [0.3, 0.4]]), [true, false]);
        // Each caption prefers its image, but both images prefer the second caption.
        assert_eq!(outcome(Winoground, [[0.2, 0.3], [0.1, 0.4]]), [false, true]);
        assert_eq!(outcome(Winoground, [[0.3, 0.3], [0.2, 0.5]]), [false, true]);
        assert_eq!(outcome(Winoground, [[0.3, 0.1], [0.3, 0.5]]), [true, false]);
    }

    #[test]
    fn scores_are_shares_of_examples() {
        let of = |text, image| Outcome { text, image };
        let outcomes = [
            of(true, true),
            of(true, false),
            of(false, true),
            of(true, false),
        ];
        let found = metrics_of(Winoground, &outcomes);
        for (name, wanted) in [
            ("examples", 4.0),
            ("text_score", 0.75),
            ("image_score", 0.5),
            ("group_score", 0.25),
        ] {
            assert_eq!(found.get(name), Some(wanted), "{name}");
        }
        assert_eq!(
            metrics_of(SugarCrepe, &outcomes).get("accuracy"),
            Some(0.75)
        );
    }

    fn draw(path: &Path, color: [u8; 3]) {
        image::RgbImage::from_pixel(32, 32, color.into())
            .save(path)
            .unwrap();
    }

    #[test]
    fn a_set_is_scored_by_category_and_equal_captions_are_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        draw(&folder.join("a.png"), [200, 10, 10]);
        draw(&folder.join("b.png"), [10, 10, 200]);
        let table = folder.join("t.csv");
        let mut text = "image,caption,negative_caption,category\n".to_string();
        // One of the two orders is right; the same tokens are never.
        for line in [
            "a.png,red,blue,x",
            "a.png,blue,red,x",
            "b.png,red,RED,y",
            "b.png,red,red,y",
        ] {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&table, text).unwrap();
        let set = CompositionalSet::open(&[table], &CompositionalOptions::default()).unwrap();
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        let model = Clip::init(&spec, 0, &Device::flex());
        let encoder =
            Encoder::new(model, &spec, &PreprocessSpec::default(), Tokenizer::clip()).unwrap();
        let found = compositional(&encoder, "t", &set, EvalOptions::default(), |_| {}).unwrap();
        let metrics = &found.report.metrics;
        assert_eq!(metrics.get("examples"), Some(4.0));
        assert_eq!(metrics.get("accuracy"), Some(0.25));
        assert_eq!(metrics.get("macro_accuracy"), Some(0.25));
        let accuracies = found
            .categories
            .iter()
            .map(|(name, metrics)| (&**name, metrics.get("accuracy")));
        let accuracies: Vec<_> = accuracies.collect();
        assert_eq!(accuracies, [("x", Some(0.5)), ("y", Some(0.0))]);
        assert_eq!((found.report.images, found.report.targets), (2, 8));
    }
}
