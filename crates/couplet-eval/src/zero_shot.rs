//! Classification: zero-shot by prompt ensembles, or by a trained head.
//!
//! Source: Radford et al. 2021, section 3.1.4; open_clip `build_zero_shot_classifier`.

use burn::tensor::{Device, Tensor, TensorData};
use couplet_data::Skipped;
use couplet_data::formats::templates::fill_template;
use couplet_data::labelled::Targets;
use couplet_model::weights::HostTensor;
use couplet_model::{ClassifierHead, l2_normalize};

use crate::confusion::ConfusionMatrix;
use crate::report::{Metrics, Protocol, Report};
use crate::{Dataset, DatasetError, Encoder, FeatureCache, Features, MissingTokenizer};

/// Images that are scored at once.
const SCORED: usize = 1024;
/// What a file of a classifier calls it.
const CLASSIFIER: &str = "classifier";
/// What `top5` counts.
const TOP: usize = 5;

/// One text feature a class: the mean of its templates' features, renormalised.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// `[classes, embed_dim]`, L2-normalised.
    weights: Tensor<2>,
}

/// Gives every class a score.
trait Scores {
    /// - image_features: `[batch, embed_dim]`, L2-normalised.
    /// - returns `[batch, classes]`.
    fn scores(&self, image_features: Tensor<2>) -> Tensor<2>;
}

impl Scores for Classifier {
    fn scores(&self, image_features: Tensor<2>) -> Tensor<2> {
        self.scores(image_features)
    }
}

impl Scores for ClassifierHead {
    fn scores(&self, image_features: Tensor<2>) -> Tensor<2> {
        self.forward(image_features)
    }
}

/// The sentences that stand for a class.
/// Source: Radford et al. 2021, figure 4 compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptMode {
    /// All of the set's templates.
    Ensemble,
    /// The first of them.
    SingleTemplate,
    /// The class's name alone.
    ClassName,
}

impl PromptMode {
    pub const ALL: [Self; 3] = [Self::Ensemble, Self::SingleTemplate, Self::ClassName];

    /// Its templates.
    fn templates(self, templates: &[String]) -> Vec<String> {
        match self {
            Self::Ensemble => templates.to_vec(),
            Self::SingleTemplate => templates[..1].to_vec(),
            Self::ClassName => vec!["{}".into()],
        }
    }
}

impl std::fmt::Display for PromptMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ensemble => "ensemble",
            Self::SingleTemplate => "single template",
            Self::ClassName => "class name only",
        })
    }
}

/// What an evaluation by classes found.
#[derive(Debug)]
pub struct Classification {
    pub report: Report,
    /// Which classes were taken for which; of a set where an image has one class.
    pub confusion: Option<ConfusionMatrix>,
    /// Images that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Why an evaluation could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Tokenizer(#[from] MissingTokenizer),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("{dataset}: none of its images could be read: {example}")]
    NothingRead { dataset: String, example: String },
    #[error("{0}")]
    Features(String),
}

/// How images are read for an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct EvalOptions<'a> {
    /// Larger images are skipped.
    pub max_image_pixels: u64,
    /// Where features of images and classes are kept for other protocols.
    pub cache: Option<&'a FeatureCache>,
}

/// The names of the metrics of a report by classes, for logs and `checkpoint.best`.
pub fn class_metrics(dataset: &Dataset) -> &'static [&'static str] {
    match dataset.images.targets() {
        Targets::MultiLabel(_) => &["map"],
        _ => &["top1", "top5", "mean_per_class"],
    }
}

impl Classifier {
    /// Embeds every class in every template.
    ///
    /// # Errors
    /// If the model's tokenizer is not on disk.
    ///
    /// # Panics
    /// If there are no classes or no templates.
    pub fn new(
        encoder: &Encoder,
        class_names: &[String],
        templates: &[String],
    ) -> Result<Self, MissingTokenizer> {
        let texts: Vec<String> = texts_of(class_names, templates).collect();
        let features = encoder.encode_texts(&texts)?;
        let embed_dim = features.dims()[1];
        let mean = features
            .reshape([class_names.len(), templates.len(), embed_dim])
            .mean_dim(1)
            .squeeze_dim::<2>(1);
        Ok(Self {
            weights: l2_normalize(mean),
        })
    }

    /// As [`Self::new`], from the cache if it is there, and into it if not.
    fn cached(
        encoder: &Encoder,
        class_names: &[String],
        templates: &[String],
        cache: Option<&FeatureCache>,
    ) -> Result<Self, MissingTokenizer> {
        let Some(cache) = cache else {
            return Self::new(encoder, class_names, templates);
        };
        let tokens = encoder.tokens()?;
        // A tokenizer shows in what it makes of the texts.
        let ids: Vec<Vec<u32>> = texts_of(class_names, templates)
            .map(|text| tokens.encode(&text))
            .collect();
        let key = cache.text_key(encoder, &(class_names.len(), ids));
        let embed_dim = encoder.spec().embed_dim;
        if let Some((values, rows)) = cache.read(key, CLASSIFIER, embed_dim) {
            let data = TensorData::new(values, [rows, embed_dim]);
            let weights = Tensor::from_data(data, &encoder.model().device());
            return Ok(Self { weights });
        }
        let classifier = Self::new(encoder, class_names, templates)?;
        let weights = HostTensor::from_tensor(classifier.weights.clone());
        cache.write(key, CLASSIFIER, weights);
        Ok(classifier)
    }

    /// - image_features: `[batch, embed_dim]`, L2-normalised.
    /// - returns cosine similarities `[batch, classes]`.
    pub fn scores(&self, image_features: Tensor<2>) -> Tensor<2> {
        image_features.matmul(self.weights.clone().transpose())
    }

    /// `[classes, embed_dim]`, L2-normalised.
    pub fn into_weights(self) -> Tensor<2> {
        self.weights
    }
}

/// The scores of features as the tower made them, `[images][classes]`, rows first.
fn score_all(classifier: &impl Scores, features: &Features, device: &Device) -> Vec<f32> {
    let all = l2_normalize(features.tensor(device));
    let mut scores = Vec::new();
    for start in (0..features.len()).step_by(SCORED) {
        let end = features.len().min(start + SCORED);
        let some = classifier
            .scores(all.clone().narrow(0, start, end - start))
            .into_data();
        scores.extend(some.try_to_vec::<f32>().expect("scores are f32"));
    }
    scores
}

/// Every class in every template, class by class.
fn texts_of(class_names: &[String], templates: &[String]) -> impl Iterator<Item = String> {
    class_names.iter().flat_map(|name| {
        templates
            .iter()
            .map(move |template| fill_template(template, name))
    })
}

/// Classifies every image of `dataset` by its whole ensemble.
/// - progress: told how many images are done.
///
/// # Errors
/// If the set has captions, no image can be read, or the model's tokenizer is not on disk.
///
/// # Panics
/// If the device fails.
pub fn zero_shot(
    encoder: &Encoder,
    dataset: &Dataset,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Classification, EvalError> {
    let all = zero_shot_by(encoder, dataset, &[PromptMode::Ensemble], options, progress)?;
    Ok(all
        .into_iter()
        .next()
        .expect("one for each way of prompting"))
}

/// As [`zero_shot`], by several ways of prompting over the same features.
///
/// # Errors
/// As [`zero_shot`].
///
/// # Panics
/// As [`zero_shot`].
pub fn zero_shot_by(
    encoder: &Encoder,
    dataset: &Dataset,
    prompts: &[PromptMode],
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Vec<Classification>, EvalError> {
    let (class_names, templates) = dataset.classes()?;
    // Before the images: a missing tokenizer should not cost an hour.
    let classifiers = prompts.iter().map(|prompts| {
        let templates = prompts.templates(templates);
        Classifier::cached(encoder, class_names, &templates, options.cache)
    });
    let classifiers = classifiers.collect::<Result<Vec<_>, _>>()?;
    let features = read_features(encoder, dataset, options, progress)?;
    let device = encoder.model().device();
    let found = classifiers.into_iter().map(|classifier| {
        let scores = score_all(&classifier, &features, &device);
        told(Protocol::ZeroShot, &scores, class_names, &features, dataset)
    });
    Ok(found.collect())
}

/// Classifies every image of `dataset` by a head that was trained for its classes.
/// - progress: told how many images are done.
///
/// # Errors
/// If the set has captions or other classes, or no image can be read.
///
/// # Panics
/// If the device fails.
pub fn classification(
    encoder: &Encoder,
    head: &ClassifierHead,
    dataset: &Dataset,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Classification, EvalError> {
    let (class_names, _) = dataset.classes()?;
    let (own, wanted) = (head.classes(), class_names.len());
    if own != wanted {
        let message = format!("has {wanted} classes, the model's head tells {own}");
        return Err(dataset.unfit(&message).into());
    }
    let features = read_features(encoder, dataset, options, progress)?;
    let scores = score_all(head, &features, &encoder.model().device());
    Ok(told(
        Protocol::Classification,
        &scores,
        class_names,
        &features,
        dataset,
    ))
}

fn told(
    protocol: Protocol,
    scores: &[f32],
    class_names: &[String],
    features: &Features,
    dataset: &Dataset,
) -> Classification {
    let (metrics, confusion) = judge(scores, class_names, &features.indices, dataset);
    Classification {
        report: Report {
            dataset: dataset.name.clone(),
            protocol,
            metrics,
            images: features.len(),
            targets: class_names.len(),
            skipped: features.skipped.len(),
        },
        confusion,
        skipped: features.skipped.clone(),
    }
}

/// The features of a dataset's images, of which there must be one.
pub(crate) fn read_features(
    encoder: &Encoder,
    dataset: &Dataset,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Features, EvalError> {
    let (images, max_pixels) = (&dataset.images, options.max_image_pixels);
    let features = Features::cached(encoder, images, max_pixels, options.cache, progress);
    if features.is_empty() {
        let example = features.skipped.first().map_or(String::new(), |one| {
            format!("{}: {}: {}", one.shard, one.cause, one.detail)
        });
        return Err(EvalError::NothingRead {
            dataset: dataset.name.clone(),
            example,
        });
    }
    Ok(features)
}

/// - scores: `[images][classes]`; indices: which of the set's images they are of.
fn judge(
    scores: &[f32],
    class_names: &[String],
    indices: &[usize],
    dataset: &Dataset,
) -> (Metrics, Option<ConfusionMatrix>) {
    let classes = class_names.len();
    match dataset.images.targets() {
        Targets::MultiLabel(rows) => {
            let truth: Vec<&[bool]> = indices.iter().map(|index| &rows[*index][..]).collect();
            let value = mean_average_precision(scores, &truth, classes);
            (Metrics(vec![("map", value)]), None)
        }
        Targets::Classes(labels) => {
            let labels: Vec<usize> = indices.iter().map(|index| labels[*index]).collect();
            let (metrics, confusion) = judge_classes(scores, &labels, class_names);
            (metrics, Some(confusion))
        }
        Targets::Captions(_) => unreachable!("the set has classes"),
    }
}

/// Top-1, top-5 and the mean over classes of each class's own top-1, classes without images
/// left out. With fewer than 5 classes top-5 is 1.
/// - scores: `[images][classes]`.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn judge_classes(
    scores: &[f32],
    labels: &[usize],
    class_names: &[String],
) -> (Metrics, ConfusionMatrix) {
    let mut confusion = ConfusionMatrix::new(class_names);
    let mut top5 = 0;
    for (row, label) in scores.chunks_exact(class_names.len()).zip(labels) {
        top5 += usize::from(rank_of(row, *label) < TOP);
        confusion.add(*label, best(row));
    }
    let metrics = Metrics(vec![
        ("top1", confusion.accuracy()),
        ("top5", top5 as f64 / labels.len().max(1) as f64),
        ("mean_per_class", confusion.mean_per_class()),
    ]);
    (metrics, confusion)
}

/// The class with the highest score; of equal ones the first, as in `argmax`.
fn best(scores: &[f32]) -> Option<usize> {
    let numbers = scores
        .iter()
        .enumerate()
        .filter(|(_, score)| !score.is_nan());
    let best = numbers.reduce(|best, one| if one.1 > best.1 { one } else { best });
    best.map(|(class, _)| class)
}

/// How many classes score above the right one. Of equal scores the first class wins, as
/// in `argmax`; a score that is no number never counts as right.
fn rank_of(scores: &[f32], label: usize) -> usize {
    let own = scores[label];
    if own.is_nan() {
        return scores.len();
    }
    scores
        .iter()
        .enumerate()
        .filter(|(class, score)| **score > own || (**score == own && *class < label))
        .count()
}

/// The mean over classes of the average precision of their images' ranking; of equal scores
/// the earlier image stands first. A class that no image shows counts as 0.
/// Source: CLIP_benchmark `average_precision_per_class`.
/// - scores: `[images][classes]`; truth: of each image, whether it shows each class.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn mean_average_precision(scores: &[f32], truth: &[&[bool]], classes: usize) -> f64 {
    let mut sum = 0.0;
    for class in 0..classes {
        let score = |image: usize| scores[image * classes + class];
        let mut order: Vec<usize> = (0..truth.len()).collect();
        order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        let (mut hits, mut precisions) = (0_usize, 0.0);
        for (at, image) in order.into_iter().enumerate() {
            if truth[image][class] {
                hits += 1;
                precisions += hits as f64 / (at + 1) as f64;
            }
        }
        sum += precisions / hits.max(1) as f64;
    }
    sum / classes.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};
    use couplet_data::Tokenizer;
    use couplet_model::{Clip, PreprocessSpec, presets};

    #[test]
    fn shares_worked_out_by_hand() {
        let scores = [
            [0.9, 0.1, 0.0, 0.2, 0.3, 0.4],
            [0.9, 0.8, 0.0, 0.2, 0.3, 0.4],
            [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            [0.1, 0.1, 0.7, 0.6, 0.5, 0.4],
        ]
        .concat();
        let names: Vec<String> = (0..6).map(|class| class.to_string()).collect();
        let (metrics, confusion) = judge_classes(&scores, &[0, 0, 5, 2], &names);
        assert_eq!(metrics.get("top1"), Some(0.75));
        assert_eq!(metrics.get("top5"), Some(0.75));
        // Class 0: 2 of 2, class 5: 0 of 1, class 2: 1 of 1.
        let mean = metrics.get("mean_per_class").unwrap();
        assert!((mean - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(confusion.worst(3), [(5, 0, 1)]);
    }

    #[test]
    fn equal_and_missing_scores_never_flatter() {
        assert_eq!(rank_of(&[0.5, 0.5, 0.5], 0), 0);
        assert_eq!(rank_of(&[0.5, 0.5, 0.5], 2), 2);
        assert_eq!(rank_of(&[0.1, f32::NAN], 1), 2);
        assert_eq!(best(&[0.5, 0.5]), Some(0));
        assert_eq!(best(&[f32::NAN, -1.0]), Some(1));
        assert_eq!(best(&[f32::NAN]), None);
    }

    #[test]
    fn average_precision_worked_out_by_hand() {
        // Class 0: images 2, 0, 1 by score, of which 2 and 1 show it: (1/1 + 2/3) / 2.
        // Class 1: no image shows it. Class 2: all equal, image 1 shows it: 1/2.
        let scores = [0.5, 0.1, 0.3, 0.2, 0.1, 0.3, 0.9, 0.1, 0.3];
        let truth: [&[bool]; 3] = [
            &[false, false, false],
            &[true, false, true],
            &[true, false, false],
        ];
        let value = mean_average_precision(&scores, &truth, 3);
        let wanted = (5.0 / 6.0 + 0.0 + 0.5) / 3.0;
        assert!((value - wanted).abs() < 1e-12, "{value}");
    }

    #[test]
    fn a_class_is_the_mean_of_its_normalised_templates() {
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
