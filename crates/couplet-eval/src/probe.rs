//! Probes: classifiers that are fitted to a dataset's training images and evaluated on its test images.

use burn::tensor::{Device, Tensor, TensorData};
use couplet_data::labelled::{LabelledDataset, Targets};

use crate::confusion::ConfusionMatrix;
use crate::dataset::Dataset;
use crate::encoder::Encoder;
use crate::feature_file::FeatureFile;
use crate::features::Features;
use crate::knn::nearest_neighbours;
use crate::linear_probe::{LabelledFeatures, LinearProbe, SolverOptions, VALIDATED};
use crate::metric::{C, MEAN_PER_CLASS, Metrics, TOP1};
use crate::protocol::{EvalError, EvalOptions};
use crate::report::{Protocol, Report};
use crate::scoring::score_classes;
use crate::unit_rows::unit_rows;

/// Features of training and test images with their classes.
#[derive(Debug)]
pub struct ProbeData {
    pub name: String,
    pub class_names: Vec<String>,
    pub train: LabelledFeatures,
    pub test: LabelledFeatures,
}

/// How a linear probe is fitted.
#[derive(Debug, Clone, Copy)]
pub struct ProbeSettings {
    /// The inverse strength of the regularization; `None` to choose it by the paper's sweep.
    pub c: Option<f64>,
    pub search: SolverOptions,
}

/// A linear probe and its results.
#[derive(Debug)]
pub struct Probe {
    pub report: Report,
    pub confusion: ConfusionMatrix,
    pub classifier: LinearProbe,
}

impl ProbeData {
    /// Computes the features of a dataset's images, or reads them from the cache.
    /// - progress: called with the split being read, the number of images that are done, and their
    ///   total.
    ///
    /// # Errors
    /// If the dataset does not have one class per image or no training images, or images cannot be used.
    ///
    /// # Panics
    /// If the device fails.
    pub fn extract(
        encoder: &Encoder,
        dataset: &Dataset,
        options: EvalOptions,
        mut progress: impl FnMut(&str, usize, usize),
    ) -> Result<Self, EvalError> {
        let (class_names, _) = dataset.classes()?;
        let class_names = class_names.to_vec();
        let train_images = dataset.train_images()?;
        let device = encoder.model().device();
        let mut collect_split = |what: &str, images: &LabelledDataset| {
            let Targets::Classes(labels) = images.targets() else {
                let message = "a probe needs one class per image".to_string();
                return Err(EvalError::Features(format!("{}: {message}", dataset.name)));
            };
            let max_pixels = options.max_image_pixels;
            let report = |done| progress(what, done, images.len());
            let features = Features::cached(encoder, images, max_pixels, options.cache, report)?;
            if features.is_empty() {
                let path = images.path().display();
                return Err(EvalError::Features(format!("{path}: there are no images")));
            }
            Ok(LabelledFeatures {
                labels: labels.clone(),
                features: features.tensor(&device),
            })
        };
        let train = collect_split("training images", &train_images)?;
        let test = collect_split("test images", &dataset.images)?;
        let name = dataset.name.clone();
        Self::checked(name, class_names, train, test)
    }

    /// Takes features and labels from files.
    ///
    /// # Errors
    /// If a file lacks features or labels, or they do not match.
    pub fn of_files(
        name: &str,
        train: FeatureFile,
        test: FeatureFile,
        device: &Device,
    ) -> Result<Self, EvalError> {
        let invalid = |message: &str| EvalError::Features(format!("{name}: {message}"));
        let labelled = |file: FeatureFile| {
            let (Some(features), Some(labels)) = (file.image_features, file.labels) else {
                return Err(invalid("both files need image_features and labels"));
            };
            let &[rows, width] = &features.shape[..] else {
                return Err(invalid("image_features must be [images, embed_dim]"));
            };
            if rows != labels.len() || rows == 0 {
                return Err(invalid(&format!(
                    "{rows} images with {} labels",
                    labels.len()
                )));
            }
            let data = TensorData::new(features.values, [rows, width]);
            let features = Tensor::from_data(data, device);
            Ok(LabelledFeatures { features, labels })
        };
        let (train, test) = (labelled(train)?, labelled(test)?);
        if train.features.dims()[1] != test.features.dims()[1] {
            return Err(invalid("training and test features have different lengths"));
        }
        let most = train.labels.iter().chain(&test.labels).max();
        // Each class costs a row of weights, whether an image has it or not.
        let rows = train.labels.len() + test.labels.len();
        if let Some(most) = most.filter(|most| **most >= rows) {
            return Err(invalid(&format!(
                "the label {most} among {rows} images: number classes from 0"
            )));
        }
        let names = (0..=most.copied().unwrap_or(0)).map(|class| class.to_string());
        Self::checked(name.to_string(), names.collect(), train, test)
    }

    fn checked(
        name: String,
        class_names: Vec<String>,
        train: LabelledFeatures,
        test: LabelledFeatures,
    ) -> Result<Self, EvalError> {
        let classes = class_names.len();
        let out_of_range = train
            .labels
            .iter()
            .chain(&test.labels)
            .find(|label| **label >= classes);
        if let Some(label) = out_of_range {
            let message =
                format!("{name}: an image has the label {label}, but there are {classes} classes");
            return Err(EvalError::Features(message));
        }
        let first = train.labels.first().copied().unwrap_or(0);
        if train.labels.iter().all(|label| *label == first) {
            return Err(EvalError::Features(format!(
                "{name}: all training images have the class `{}`; a probe needs images of at least 2 classes",
                class_names[first]
            )));
        }
        Ok(Self {
            name,
            class_names,
            train,
            test,
        })
    }

    /// The names of the classes without training images, which a probe never predicts.
    pub fn untrained_classes(&self) -> Vec<&str> {
        let mut is_trained = vec![false; self.class_names.len()];
        for label in &self.train.labels {
            is_trained[*label] = true;
        }
        let names = self.class_names.iter().zip(is_trained);
        let names = names.filter(|(_, is_trained)| !is_trained);
        names.map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn report(&self, protocol: Protocol, metrics: Metrics) -> Report {
        Report {
            dataset: self.name.clone(),
            protocol,
            metrics,
            images: self.test.labels.len(),
            targets: self.class_names.len(),
            skipped: 0,
        }
    }
}

/// Fits logistic regression to the features as the image tower outputs them.
/// - progress: called with each `c` of the sweep and its accuracy on the validation images.
///
/// # Errors
/// If there are too few training images for a sweep.
///
/// # Panics
/// If the device fails.
pub fn linear_probe(
    data: &ProbeData,
    settings: ProbeSettings,
    progress: impl FnMut(f64, f64),
) -> Result<Probe, EvalError> {
    let classes = data.class_names.len();
    let images = data.train.labels.len();
    if settings.c.is_none() && images < VALIDATED {
        return Err(EvalError::Features(format!(
            "{}: {images} training images are too few to choose C, which needs {VALIDATED}; give it with -C",
            data.name
        )));
    }
    let classifier = match settings.c {
        Some(c) => LinearProbe::fit(&data.train, classes, c, settings.search, None),
        None => LinearProbe::sweep(&data.train, classes, settings.search, progress),
    };
    let scores = classifier.scores(&data.test.features);
    let (mut metrics, confusion) = score_classes(&scores, &data.test.labels, &data.class_names);
    metrics.0.push(C.of(classifier.c));
    Ok(Probe {
        report: data.report(Protocol::LinearProbe, metrics),
        confusion,
        classifier,
    })
}

/// Classifies by the `k` nearest training images, or by all of them if there are fewer.
///
/// # Panics
/// If the device fails.
pub fn knn(data: &ProbeData, k: usize) -> (Report, ConfusionMatrix) {
    let [train, test] = [&data.train, &data.test].map(|split| unit_rows(&split.features));
    let found = nearest_neighbours(&train, &data.train.labels, &test, k);
    let mut confusion = ConfusionMatrix::new(&data.class_names);
    for (label, class) in data.test.labels.iter().zip(found) {
        confusion.add(*label, Some(class));
    }
    let metrics = Metrics(vec![
        TOP1.of(confusion.accuracy()),
        MEAN_PER_CLASS.of(confusion.mean_per_class()),
    ]);
    (data.report(Protocol::Knn, metrics), confusion)
}
