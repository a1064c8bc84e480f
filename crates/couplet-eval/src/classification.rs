//! Classification by a trained head, and the parts it shares with zero-shot classification.

use burn::tensor::{Device, Tensor};
use couplet_model::{ClassifierHead, l2_normalize};

use crate::confusion::ConfusionMatrix;
use crate::dataset::Dataset;
use crate::encoder::Encoder;
use crate::features::Features;
use crate::inputs::read_inputs;
use crate::protocol::{EvalError, EvalOptions};
use crate::report::{Protocol, Report};
use crate::scoring::score;

/// Images that are scored at once.
const SCORED: usize = 1024;

/// The results of an evaluation by classes.
#[derive(Debug)]
pub struct Classification {
    pub report: Report,
    /// Images by class and predicted class; `None` for multi-label datasets.
    pub confusion: Option<ConfusionMatrix>,
}

/// Classifies every image of `dataset` with a head that was trained on its classes.
/// - progress: called with the number of images that are done.
///
/// # Errors
/// If the dataset has captions or another number of classes, or images cannot be used.
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
    let wanted = dataset.classes().map(|(class_names, _)| class_names.len());
    let texts = wanted.and_then(|wanted| {
        let own = head.classes();
        if own == wanted {
            return Ok(Vec::new());
        }
        let message = format!("has {wanted} classes, but the model's head has {own}");
        Err(dataset.unsuitable(&message))
    });
    let texts = texts.map_err(EvalError::from);
    let features = read_inputs(encoder, dataset, texts, options, progress)?.images;
    let (class_names, _) = dataset.classes()?;
    let scores = score_all(
        |features| head.forward(features),
        &features,
        &encoder.model().device(),
        dataset,
    )?;
    Ok(classified(
        Protocol::Classification,
        &scores,
        class_names,
        dataset,
    ))
}

/// The report of a dataset from its scores, `[images][classes]`.
pub(crate) fn classified(
    protocol: Protocol,
    scores: &[f32],
    class_names: &[String],
    dataset: &Dataset,
) -> Classification {
    let (metrics, confusion) = score(scores, class_names, dataset);
    Classification {
        report: Report {
            dataset: dataset.name.clone(),
            protocol,
            metrics,
            images: dataset.images.len(),
            targets: class_names.len(),
            skipped: 0,
        },
        confusion,
    }
}

/// Scores the features of all images: `[images][classes]`, row-major.
/// - classifier: maps image features `[batch, embed_dim]`, L2-normalized, to scores `[batch, classes]`.
///
/// # Errors
/// If a score is not finite: the features are, but the classifier's weights are not.
pub(crate) fn score_all(
    classifier: impl Fn(Tensor<2>) -> Tensor<2>,
    features: &Features,
    device: &Device,
    dataset: &Dataset,
) -> Result<Vec<f32>, EvalError> {
    let all = l2_normalize(features.tensor(device));
    let mut scores = Vec::new();
    for start in (0..features.len()).step_by(SCORED) {
        let end = features.len().min(start + SCORED);
        let some = classifier(all.clone().narrow(0, start, end - start)).into_data();
        scores.extend(some.try_to_vec::<f32>().expect("scores are f32"));
    }
    if scores.iter().all(|score| score.is_finite()) {
        return Ok(scores);
    }
    let message = "the scores of classes are NaN or infinite; check the weights of the classifier";
    Err(EvalError::Features(format!("{}: {message}", dataset.name)))
}
