//! Classified images: how well each class is told, which are confused, and pictures of both.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use couplet_data::labelled::{LabelledDataset, Targets};
use couplet_data::{LastCause, decode};
use couplet_eval::{Classifier, ConfusionMatrix, Dataset, Encoder};
use serde::{Deserialize, Serialize};

use super::images::{Encoded, encode, picture};
use super::predictions::Prediction;
use super::problem::Problem;

/// Images that are shown with what the model says of them.
const SAMPLES: usize = 12;
/// Mistakes that are shown, and images of each.
const MISTAKES: usize = 8;
const EXAMPLES: usize = 4;
/// Labels of an image.
const LABELS: usize = 3;
/// Classes whose confusions are all drawn, at most.
const DRAWN: usize = 64;
/// Images that are scored at once.
const SCORED: usize = 1024;

/// A dataset with classes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClassFindings {
    pub dataset: String,
    /// `zero-shot` or `classification`.
    pub kind: String,
    /// Images that were looked at and could be used, those that could not, and all.
    pub images: usize,
    pub skipped: usize,
    pub of: usize,
    pub top1: f64,
    classes: Vec<OneClass>,
    /// `[class][predicted class]`; empty for many classes.
    confusion: Vec<Vec<u32>>,
    mistakes: Vec<Mistake>,
    samples: Vec<Shown>,
    /// Written to a file of their own.
    #[serde(skip)]
    pub predictions: Vec<Prediction>,
    /// As CSV; written to a file of its own.
    #[serde(skip)]
    pub confusion_csv: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OneClass {
    name: String,
    images: u32,
    /// `null` without images.
    recall: Option<f64>,
    precision: f64,
}

/// Images of a class that are taken for another.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mistake {
    class: String,
    predicted: String,
    count: u32,
    of: u32,
    examples: Vec<Shown>,
}

/// An image, and what the model says of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Shown {
    /// `null` if the image cannot be read again.
    picture: Option<String>,
    file: String,
    key: String,
    class: String,
    /// Labels and probabilities, the most likely first.
    labels: Vec<(String, f32)>,
}

impl ClassFindings {
    /// - by_head: whether the model has a head for the classes; else it is zero-shot.
    pub fn of(
        encoder: &Encoder,
        dataset: &Dataset,
        by_head: bool,
        most: usize,
        most_pixels: u64,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, Problem> {
        let (names, templates) = dataset.classes()?;
        let Targets::Classes(labels) = dataset.images.targets() else {
            let message =
                "its images have several classes each, of which no one is confused with another";
            return Err(Problem::Unfit(message.into()));
        };
        let seen = encode(encoder, &dataset.images, most, most_pixels, progress)?;
        if seen.indices.is_empty() {
            return Err(Problem::Unfit("none of its images can be used".into()));
        }
        let classifier: Box<dyn Fn(Tensor<2>) -> Tensor<2>> = if by_head {
            let head = encoder.head().map(|head| head.classifier.clone());
            let head =
                head.ok_or_else(|| Problem::Unfit("the model has no classification head".into()))?;
            if head.classes() != names.len() {
                return Err(Problem::Unfit("the model's head has other classes".into()));
            }
            Box::new(move |features| head.forward(features))
        } else {
            let classifier = Classifier::new(encoder, names, templates)?;
            let scale: f32 = encoder.model().logit_scale.val().exp().into_scalar();
            Box::new(move |features| classifier.scores(features).mul_scalar(scale))
        };
        let rows = scores(encoder, &seen, &classifier, names.len())?;
        let ranked: Vec<Vec<(usize, f32)>> = rows.chunks_exact(names.len()).map(ranked).collect();
        let mut confusion = ConfusionMatrix::new(names);
        let mut predictions = Vec::new();
        for (index, ranked) in seen.indices.iter().zip(&ranked) {
            let (predicted, probability) = ranked[0];
            confusion.add(labels[*index], Some(predicted));
            let (file, key) = dataset.images.locate(*index);
            predictions.push(Prediction {
                file,
                key,
                class: labels[*index],
                predicted,
                probability,
            });
        }
        let view = View {
            images: &dataset.images,
            names,
            labels,
            seen: &seen,
            ranked: &ranked,
            most_pixels,
        };
        let drawn = if names.len() <= DRAWN { names.len() } else { 0 };
        let classes = confusion.by_class().into_iter().map(|class| OneClass {
            recall: Some(class.recall).filter(|recall| recall.is_finite()),
            name: class.name,
            images: class.images,
            precision: class.precision,
        });
        Ok(Self {
            dataset: dataset.name.clone(),
            kind: if by_head {
                "classification"
            } else {
                "zero-shot"
            }
            .into(),
            images: seen.indices.len(),
            skipped: seen.skipped,
            of: dataset.images.len(),
            top1: confusion.accuracy(),
            classes: classes.collect(),
            confusion: (0..drawn)
                .map(|class| confusion.row(class).to_vec())
                .collect(),
            mistakes: view.mistakes(&confusion),
            samples: view.samples(),
            confusion_csv: confusion.to_csv(),
            predictions,
        })
    }
}

/// `[images, classes]`, row-major.
fn scores(
    encoder: &Encoder,
    seen: &Encoded,
    classifier: &dyn Fn(Tensor<2>) -> Tensor<2>,
    classes: usize,
) -> Result<Vec<f32>, Problem> {
    let (width, device) = (encoder.spec().embed_dim, encoder.model().device());
    let mut rows = Vec::with_capacity(seen.indices.len() * classes);
    for some in seen.features.chunks(SCORED * width) {
        let data = TensorData::new(some.to_vec(), [some.len() / width, width]);
        let scores = classifier(Tensor::from_data(data, &device)).into_data();
        let scores = scores.try_to_vec::<f32>().map_err(LastCause);
        rows.extend(scores.map_err(|error| Problem::Unfit(error.to_string()))?);
    }
    if !rows.iter().all(|score| score.is_finite()) {
        return Err(Problem::Unfit(
            "the scores of classes are NaN or infinite".into(),
        ));
    }
    Ok(rows)
}

/// The most likely classes with their probabilities; of equal scores the first, as in `argmax`.
fn ranked(scores: &[f32]) -> Vec<(usize, f32)> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    let kept = LABELS.min(order.len());
    if kept < order.len() {
        order.select_nth_unstable_by(kept, by_score);
        order.truncate(kept);
    }
    order.sort_unstable_by(by_score);
    order
        .into_iter()
        .map(|class| (class, (scores[class] - most).exp() / sum))
        .collect()
}

/// Images with what was found of them.
struct View<'a> {
    images: &'a LabelledDataset,
    names: &'a [String],
    labels: &'a [usize],
    seen: &'a Encoded,
    ranked: &'a [Vec<(usize, f32)>],
    most_pixels: u64,
}

impl View<'_> {
    /// Images from all over the dataset.
    fn samples(&self) -> Vec<Shown> {
        let count = SAMPLES.min(self.ranked.len());
        (0..count)
            .map(|at| self.shown(at * self.ranked.len() / count))
            .collect()
    }

    fn mistakes(&self, confusion: &ConfusionMatrix) -> Vec<Mistake> {
        let mistake = |(class, predicted, count): (usize, usize, u32)| {
            let mut rows: Vec<usize> = (0..self.ranked.len())
                .filter(|row| {
                    let index = self.seen.indices[*row];
                    self.labels[index] == class && self.ranked[*row][0].0 == predicted
                })
                .collect();
            // Those first of which the model is surest.
            rows.sort_by(|a, b| self.ranked[*b][0].1.total_cmp(&self.ranked[*a][0].1));
            let examples = rows.into_iter().take(EXAMPLES).map(|row| self.shown(row));
            Mistake {
                class: self.names[class].clone(),
                predicted: self.names[predicted].clone(),
                count,
                of: confusion.row(class).iter().sum(),
                examples: examples.collect(),
            }
        };
        confusion.worst(MISTAKES).into_iter().map(mistake).collect()
    }

    /// - row: of the images that were seen.
    fn shown(&self, row: usize) -> Shown {
        let index = self.seen.indices[row];
        let image = self
            .images
            .read(index)
            .and_then(|image| decode(image, self.most_pixels));
        let (file, key) = self.images.locate(index);
        let labels = self.ranked[row].iter();
        Shown {
            picture: image.ok().map(|image| picture(&image)),
            file: name_of(&file),
            key,
            class: self.names[self.labels[index]].clone(),
            labels: labels
                .map(|(class, share)| (self.names[*class].clone(), *share))
                .collect(),
        }
    }
}

/// A file's name without its folders, which would tell more of a machine than a page should.
pub(super) fn name_of(file: &str) -> String {
    let name = Path::new(file).file_name();
    name.map_or_else(
        || file.to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}
