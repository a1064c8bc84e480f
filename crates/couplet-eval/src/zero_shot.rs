//! Zero-shot classification by prompt ensembles.
//!
//! Source: Radford et al. 2021, section 3.1.4; open_clip `build_zero_shot_classifier`.

use burn::tensor::Tensor;
use couplet_data::Skipped;
use couplet_model::l2_normalize;
use serde::Serialize;

use crate::{Dataset, Encoder, MissingTokenizer};

/// Images whose features are computed at once.
const IMAGE_BATCH: usize = 64;
/// What `top5` counts.
const TOP: usize = 5;

/// One text feature a class: the mean of its templates' features, renormalised.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// `[classes, embed_dim]`, L2-normalised.
    weights: Tensor<2>,
}

/// How a model did on one dataset. Shares are in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZeroShotReport {
    pub dataset: String,
    pub top1: f64,
    /// With fewer than 5 classes this is 1.
    pub top5: f64,
    /// The mean over classes of each class's own top-1; classes without images left out.
    pub mean_per_class: f64,
    pub images: usize,
    pub classes: usize,
    /// Images that could not be read; they count nowhere.
    pub skipped: usize,
}

/// The metrics of a report, as they are named in logs.
pub const ZERO_SHOT_METRICS: [&str; 3] = ["top1", "top5", "mean_per_class"];

impl ZeroShotReport {
    /// Each metric's name and value.
    pub fn metrics(&self) -> [(&'static str, f64); 3] {
        let [top1, top5, mean_per_class] = ZERO_SHOT_METRICS;
        [
            (top1, self.top1),
            (top5, self.top5),
            (mean_per_class, self.mean_per_class),
        ]
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
        let texts: Vec<String> = class_names
            .iter()
            .flat_map(|name| templates.iter().map(move |t| fill(t, name)))
            .collect();
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

    /// - image_features: `[batch, embed_dim]`, L2-normalised.
    /// - returns cosine similarities `[batch, classes]`.
    pub fn scores(&self, image_features: Tensor<2>) -> Tensor<2> {
        image_features.matmul(self.weights.clone().transpose())
    }
}

fn fill(template: &str, name: &str) -> String {
    template.replace("{c}", name).replace("{}", name)
}

/// Classifies every image of `dataset`.
/// - max_image_pixels: larger images are skipped.
/// - progress: told how many images are done.
/// - returns the report, and the images that were skipped.
///
/// # Errors
/// If the model's tokenizer is not on disk.
///
/// # Panics
/// If the device fails.
pub fn zero_shot(
    encoder: &Encoder,
    dataset: &Dataset,
    max_image_pixels: u64,
    mut progress: impl FnMut(usize),
) -> Result<(ZeroShotReport, Vec<Skipped>), MissingTokenizer> {
    let classifier = Classifier::new(encoder, &dataset.class_names, &dataset.templates)?;
    let mut tally = Tally::new(dataset.class_names.len());
    let mut skipped = Vec::new();
    let mut done = 0;
    while done < dataset.images.len() {
        let end = (done + IMAGE_BATCH).min(dataset.images.len());
        let batch = dataset
            .images
            .batch(done..end, encoder.transform(), max_image_pixels);
        if !batch.labels.is_empty() {
            let scores = classifier.scores(encoder.encode_pixels(batch.pixels));
            tally.add(scores, &batch.labels);
        }
        skipped.extend(batch.skipped);
        done = end;
        progress(done);
    }
    Ok((tally.report(&dataset.name, skipped.len()), skipped))
}

/// Counts of right answers by class.
struct Tally {
    images: Vec<usize>,
    top1: Vec<usize>,
    top5: usize,
}

impl Tally {
    fn new(classes: usize) -> Self {
        Self {
            images: vec![0; classes],
            top1: vec![0; classes],
            top5: 0,
        }
    }

    /// - scores: `[batch, classes]`.
    fn add(&mut self, scores: Tensor<2>, labels: &[usize]) {
        let classes = scores.dims()[1];
        let values: Vec<f32> = scores.into_data().try_to_vec().expect("scores are f32");
        for (row, label) in values.chunks_exact(classes).zip(labels) {
            let rank = rank_of(row, *label);
            self.images[*label] += 1;
            self.top1[*label] += usize::from(rank < 1);
            self.top5 += usize::from(rank < TOP);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn report(&self, dataset: &str, skipped: usize) -> ZeroShotReport {
        let images: usize = self.images.iter().sum();
        let share = |right: usize, all: usize| right as f64 / all.max(1) as f64;
        let per_class: Vec<f64> = (self.top1.iter().zip(&self.images))
            .filter(|(_, images)| **images > 0)
            .map(|(right, images)| share(*right, *images))
            .collect();
        ZeroShotReport {
            dataset: dataset.to_string(),
            top1: share(self.top1.iter().sum(), images),
            top5: share(self.top5, images),
            mean_per_class: per_class.iter().sum::<f64>() / per_class.len().max(1) as f64,
            images,
            classes: self.images.len(),
            skipped,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};
    use couplet_data::Tokenizer;
    use couplet_model::{Clip, PreprocessSpec, presets};

    #[test]
    fn shares_worked_out_by_hand() {
        let scores = Tensor::<2>::from_floats(
            [
                [0.9, 0.1, 0.0, 0.2, 0.3, 0.4],
                [0.9, 0.8, 0.0, 0.2, 0.3, 0.4],
                [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
                [0.1, 0.1, 0.7, 0.6, 0.5, 0.4],
            ],
            &Device::flex(),
        );
        let mut tally = Tally::new(6);
        tally.add(scores, &[0, 0, 5, 2]);
        let report = tally.report("d", 1);
        assert!((report.top1 - 0.75).abs() < 1e-12);
        assert!((report.top5 - 0.75).abs() < 1e-12);
        // Class 0: 2 of 2, class 5: 0 of 1, class 2: 1 of 1.
        assert!((report.mean_per_class - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((report.images, report.skipped), (4, 1));
    }

    #[test]
    fn equal_and_missing_scores_never_flatter() {
        assert_eq!(rank_of(&[0.5, 0.5, 0.5], 0), 0);
        assert_eq!(rank_of(&[0.5, 0.5, 0.5], 2), 2);
        assert_eq!(rank_of(&[0.1, f32::NAN], 1), 2);
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
