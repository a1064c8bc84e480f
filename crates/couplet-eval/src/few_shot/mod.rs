//! Few-shot classification: classifiers that are fitted to a few training images of each class.
//!
//! Source: big_vision's `evaluators/fewshot_lsr.py`; CLIP_benchmark's linear probe with `fewshot_k`.

mod draw;
mod ridge;

use burn::tensor::{Int, Tensor};

use self::draw::shuffled_by_class;
use self::ridge::Ridge;
use crate::confusion::ConfusionMatrix;
use crate::linear_probe::{LabelledFeatures, LinearProbe, SolverOptions};
use crate::metric::{MEAN_PER_CLASS, MEAN_PER_CLASS_STD, Metrics, SHOTS, TOP1, TOP1_STD};
use crate::probe::ProbeData;
use crate::protocol::EvalError;
use crate::report::{Protocol, Report};
use crate::scoring::best;
use crate::unit_rows::unit_rows;

/// What is fitted to the drawn images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FewShotClassifier {
    /// Least squares to targets of -1 and 1 over standardized features, in closed form.
    Ridge {
        /// The strength of the regularization, above 0.
        l2: f64,
    },
    /// Logistic regression over the features as they are.
    Logistic {
        /// The inverse strength of the regularization, above 0.
        c: f64,
    },
}

/// How few-shot classifiers are fitted.
#[derive(Debug, Clone)]
pub struct FewShotSettings {
    /// Training images of each class, at least one; a report for each.
    pub shots: Vec<usize>,
    /// The number of draws, at least one, with the seeds from 0 on.
    pub seeds: u32,
    pub classifier: FewShotClassifier,
    /// Whether features are L2-normalized first.
    pub is_normalized: bool,
}

impl Default for FewShotSettings {
    /// The classifier, its regularization and the number of draws of big_vision.
    fn default() -> Self {
        Self {
            shots: vec![1, 2, 4, 8, 16],
            seeds: 3,
            classifier: FewShotClassifier::Ridge { l2: 1024.0 },
            is_normalized: false,
        }
    }
}

/// The results for one number of images of each class.
#[derive(Debug, Clone)]
pub struct FewShot {
    pub shots: usize,
    /// The means over the draws, and their standard deviations.
    pub report: Report,
    pub draws: Vec<FewShotDraw>,
}

/// The result of one draw.
#[derive(Debug, Clone, PartialEq)]
pub struct FewShotDraw {
    pub seed: u32,
    /// The rows of the training images that were drawn, class by class.
    pub rows: Vec<usize>,
    pub top1: f64,
    pub mean_per_class: f64,
}

/// Fits a classifier to `k` training images of each class for every `k` and every seed, and classifies all test images.
///
/// A seed draws the images that NumPy's `default_rng(seed).permutation` puts first in each class, one class after the
/// other, as big_vision does; the images of a smaller `k` are among those of a larger one. A class with fewer
/// images has them all in ([`ProbeData::classes_below`]).
/// - progress: called with each `k` and seed that is done.
///
/// # Errors
/// If the regularization is too weak to solve for the classifier, or the settings ask for nothing.
///
/// # Panics
/// If the device fails.
pub fn few_shot(
    data: &ProbeData,
    settings: &FewShotSettings,
    mut progress: impl FnMut(usize, u32),
) -> Result<Vec<FewShot>, EvalError> {
    let invalid = |message: &str| Err(EvalError::Features(format!("{}: {message}", data.name)));
    if settings.seeds == 0 || settings.shots.is_empty() || settings.shots.contains(&0) {
        return invalid("a few-shot evaluation needs at least one image of a class and one seed");
    }
    if data.train.features.dims()[1] == 0 {
        return invalid("the features have no values");
    }
    let [train, test] = [&data.train, &data.test].map(|split| {
        if settings.is_normalized {
            unit_rows(&split.features)
        } else {
            split.features.clone()
        }
    });
    let fits = Fits {
        data,
        classifier: settings.classifier,
        train: values(&train),
        train_tensor: train,
        test: values(&test),
        test_tensor: test,
    };
    let classes = data.class_names.len();
    let orders =
        (0..settings.seeds).map(|seed| shuffled_by_class(&data.train.labels, classes, seed));
    let orders: Vec<Vec<Vec<usize>>> = orders.collect();
    let mut found = Vec::with_capacity(settings.shots.len());
    for shots in &settings.shots {
        let mut draws = Vec::new();
        for (seed, order) in (0..settings.seeds).zip(&orders) {
            let rows = order.iter().flat_map(|rows| rows.iter().take(*shots));
            let rows: Vec<usize> = rows.copied().collect();
            let confusion = fits.confusion(&rows)?;
            draws.push(FewShotDraw {
                seed,
                top1: confusion.accuracy(),
                mean_per_class: confusion.mean_per_class(),
                rows,
            });
            progress(*shots, seed);
        }
        found.push(FewShot {
            shots: *shots,
            report: data.report(Protocol::FewShot, summary(*shots, &draws)),
            draws,
        });
    }
    Ok(found)
}

impl ProbeData {
    /// The classes with fewer than `shots` training images, with how many they have.
    pub fn classes_below(&self, shots: usize) -> Vec<(&str, usize)> {
        let mut images = vec![0; self.class_names.len()];
        for label in &self.train.labels {
            images[*label] += 1;
        }
        let classes = self.class_names.iter().map(String::as_str).zip(images);
        classes.filter(|(_, images)| *images < shots).collect()
    }
}

/// What the classifiers of one dataset are fitted to and evaluated on.
struct Fits<'a> {
    data: &'a ProbeData,
    classifier: FewShotClassifier,
    /// `[images][embed_dim]`, row-major.
    train: Vec<f32>,
    train_tensor: Tensor<2>,
    test: Vec<f32>,
    test_tensor: Tensor<2>,
}

impl Fits<'_> {
    /// The test images by class and predicted class.
    /// - rows: the training images to fit to.
    fn confusion(&self, rows: &[usize]) -> Result<ConfusionMatrix, EvalError> {
        let classes = self.data.class_names.len();
        let labels: Vec<usize> = rows
            .iter()
            .map(|row| self.data.train.labels[*row])
            .collect();
        let predicted: Vec<Option<usize>> = match self.classifier {
            FewShotClassifier::Ridge { l2 } => {
                let embed_dim = self.train_tensor.dims()[1];
                let row = |row: &usize| &self.train[row * embed_dim..(row + 1) * embed_dim];
                let features = rows.iter().flat_map(row).copied();
                let features: Vec<f32> = features.collect();
                let ridge = Ridge::fit(&features, &labels, classes, l2).map_err(|_| {
                    EvalError::Features(format!(
                        "{}: an L2 regularization of {l2:e} is too weak to solve for the classifier; raise it",
                        self.data.name
                    ))
                })?;
                ridge.predict(&self.test).into_iter().map(Some).collect()
            }
            FewShotClassifier::Logistic { c } => {
                let indices = rows.iter().map(|row| i64::try_from(*row).unwrap_or(0));
                let indices: Vec<i64> = indices.collect();
                let device = self.train_tensor.device();
                let indices = Tensor::<1, Int>::from_data(&indices[..], &device);
                let drawn = LabelledFeatures {
                    features: self.train_tensor.clone().select(0, indices),
                    labels,
                };
                let search = SolverOptions::default();
                let probe = LinearProbe::fit(&drawn, classes, c, search, None);
                let scores = probe.scores(&self.test_tensor);
                scores.chunks_exact(classes).map(best).collect()
            }
        };
        let mut confusion = ConfusionMatrix::new(&self.data.class_names);
        for (label, predicted) in self.data.test.labels.iter().zip(predicted) {
            confusion.add(*label, predicted);
        }
        Ok(confusion)
    }
}

fn values(features: &Tensor<2>) -> Vec<f32> {
    let values = features.clone().into_data();
    values.try_to_vec().expect("features are f32")
}

fn summary(shots: usize, draws: &[FewShotDraw]) -> Metrics {
    let top1: Vec<f64> = draws.iter().map(|draw| draw.top1).collect();
    let mean_per_class: Vec<f64> = draws.iter().map(|draw| draw.mean_per_class).collect();
    let [top1, mean_per_class] = [top1, mean_per_class].map(|values| mean_and_deviation(&values));
    #[expect(clippy::cast_precision_loss, reason = "a small number of images")]
    let shots = shots as f64;
    Metrics(vec![
        SHOTS.of(shots),
        TOP1.of(top1.0),
        TOP1_STD.of(top1.1),
        MEAN_PER_CLASS.of(mean_per_class.0),
        MEAN_PER_CLASS_STD.of(mean_per_class.1),
    ])
}

/// The mean, and the standard deviation over the number of values, as NumPy's `std`.
#[expect(clippy::cast_precision_loss, reason = "a small number of seeds")]
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean) * (value - mean));
    (mean, (squares.sum::<f64>() / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Two features: the sign of the first is the class.
    fn split(rows: &[[f32; 2]], labels: &[usize]) -> LabelledFeatures {
        let data = TensorData::new(rows.concat(), [rows.len(), 2]);
        LabelledFeatures {
            features: Tensor::from_data(data, &Device::flex()),
            labels: labels.to_vec(),
        }
    }

    fn data() -> ProbeData {
        let train = [
            [-1.0, 0.5],
            [1.0, 0.4],
            [-2.0, -0.5],
            [3.0, 0.0],
            [2.0, 1.0],
        ];
        ProbeData {
            name: "signs".into(),
            class_names: vec!["below".into(), "above".into()],
            train: split(&train, &[0, 1, 0, 1, 1]),
            test: split(&[[-4.0, 0.0], [5.0, 0.0], [-0.1, 9.0]], &[0, 1, 1]),
        }
    }

    #[test]
    fn every_number_of_shots_has_a_report_over_all_seeds() {
        let data = data();
        for classifier in [
            FewShotClassifier::Ridge { l2: 1e-3 },
            FewShotClassifier::Logistic { c: 1e3 },
        ] {
            let settings = FewShotSettings {
                shots: vec![1, 9],
                seeds: 4,
                classifier,
                is_normalized: false,
            };
            let mut done = Vec::new();
            let found = few_shot(&data, &settings, |shots, seed| done.push((shots, seed))).unwrap();
            assert_eq!(done.len(), 8);
            assert_eq!(done[5], (9, 1));
            let images: Vec<usize> = found.iter().map(|one| one.draws[0].rows.len()).collect();
            assert_eq!(images, [2, 5], "all that there are");
            let report = &found[1].report;
            assert_eq!(report.metrics.get("shots"), Some(9.0));
            // Always the same images.
            assert!(report.metrics.get("top1_std").unwrap() < 1e-9);
            assert_eq!((report.images, report.targets), (3, 2));
            let draws = &found[0].draws;
            let mean = draws.iter().map(|draw| draw.top1).sum::<f64>() / 4.0;
            assert_eq!(found[0].report.metrics.get("top1"), Some(mean));
            assert!(draws.iter().any(|draw| draw.rows != draws[0].rows));
        }
        assert_eq!(data.classes_below(3), [("below", 2)]);
        let none = FewShotSettings {
            seeds: 0,
            ..FewShotSettings::default()
        };
        assert!(few_shot(&data, &none, |_, _| {}).is_err());
    }

    #[test]
    fn deviations_are_over_the_number_of_values() {
        let (mean, deviation) = mean_and_deviation(&[0.2, 0.4, 0.9]);
        assert!((mean - 0.5).abs() < 1e-12);
        // ((0.3² + 0.1² + 0.4²) / 3)^½
        assert!((deviation - (0.26_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(mean_and_deviation(&[0.5]), (0.5, 0.0));
    }
}
