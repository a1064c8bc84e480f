//! Zero-shot classification with ensembles of prompts.
//!
//! Source: Radford et al. 2021, section 3.1.4.

use crate::classification::{Classification, classified, score_all};
use crate::classifier::Classifier;
use crate::dataset::Dataset;
use crate::encoder::Encoder;
use crate::inputs::{Inputs, read_inputs};
use crate::protocol::{EvalError, EvalOptions};
use crate::report::Protocol;
use crate::texts::Texts;

/// The prompts of each class. Source: Radford et al. 2021, figure 4 compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptMode {
    /// All templates of the dataset.
    Ensemble,
    /// The first template only.
    SingleTemplate,
    /// The class name only.
    ClassName,
}

impl PromptMode {
    pub const ALL: [Self; 3] = [Self::Ensemble, Self::SingleTemplate, Self::ClassName];

    /// The templates of this mode.
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

/// Classifies every image of `dataset` zero-shot, with the ensemble of all templates.
/// - progress: called with the number of images that are done.
///
/// # Errors
/// If the dataset has captions, images cannot be used, features are not finite, or the model's tokenizer
/// is not on disk.
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
    Ok(all.into_iter().next().expect("one result per prompt mode"))
}

/// As [`zero_shot`], for several prompt modes on the same features.
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
    let texts = dataset.classes().map(|(class_names, templates)| {
        let texts = prompts.iter().map(|prompts| Texts::Classes {
            class_names,
            templates: prompts.templates(templates),
        });
        texts.collect()
    });
    let texts = texts.map_err(EvalError::from);
    let Inputs { images, texts } = read_inputs(encoder, dataset, texts, options, progress)?;
    let (class_names, _) = dataset.classes()?;
    let device = encoder.model().device();
    let found = texts.into_iter().map(|weights| {
        let classifier = Classifier::of_weights(weights);
        let scores = |features| classifier.scores(features);
        let scores = score_all(scores, &images, &device, dataset)?;
        Ok(classified(
            Protocol::ZeroShot,
            &scores,
            class_names,
            dataset,
        ))
    });
    found.collect()
}
