//! `couplet classify`.

use std::path::PathBuf;

use anyhow::bail;
use burn::tensor::Tensor;
use clap::Args;
use couplet_data::formats::templates::template_problem;
use couplet_data::{LastCause, printable};
use couplet_eval::{Classifier, Encoder, NotFinite, ranked};
use couplet_model::l2_normalize;
use couplet_model::weights::HostTensor;

use super::inputs::{exit_code, image_files, print_left_out};
use super::model_arguments::ModelArguments;
use crate::json_output::JsonArguments;

#[derive(Debug, Args)]
pub(crate) struct ClassifyArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Labels to choose from, separated by commas; not needed for a fine-tuned model, which has
    /// classes of its own
    #[arg(long, value_delimiter = ',', value_name = "LABEL,LABEL…")]
    labels: Vec<String>,
    /// Prompt with {} or {c} in place of the label; repeat to average several [default: the label alone]
    #[arg(long, value_name = "TEXT", requires = "labels")]
    template: Vec<String>,
    #[command(flatten)]
    json: JsonArguments,
    /// Number of labels to print per image
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Image files, or folders of images, which are searched with their sub-folders. Bad images are
    /// reported and left out, and the exit code is 1
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

/// Images per forward pass.
const IMAGE_BATCH: usize = 32;
/// A template of the label alone.
const LABEL_ONLY: &str = "{}";

pub(crate) fn run(arguments: &ClassifyArguments) -> anyhow::Result<u8> {
    arguments.json.begin()?;
    let images = image_files(&arguments.images)?;
    let (encoder, labels, logits) = if arguments.labels.is_empty() {
        from_head(arguments)?
    } else {
        from_labels(arguments)?
    };
    let (mut left_out, mut results) = (0, Vec::new());
    for chunk in images.chunks(IMAGE_BATCH) {
        let (mut pixels, mut usable) = (Vec::new(), Vec::new());
        for (image, read) in chunk.iter().zip(encoder.read_images(chunk)) {
            match read {
                Ok(read) => {
                    pixels.extend(read);
                    usable.push(couplet_data::printable_path(image));
                }
                Err(error) => {
                    left_out += 1;
                    print_left_out(&error);
                }
            }
        }
        if usable.is_empty() {
            continue;
        }
        let features = encoder.encode_pixels_raw(pixels);
        let values = HostTensor::from_tensor(features.clone()).values;
        let width = encoder.spec().embed_dim;
        NotFinite::check("images", &values, width, |row| usable[row].clone())?;
        let logits: Vec<f32> = logits(l2_normalize(features))
            .into_data()
            .try_to_vec()
            .map_err(LastCause)?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            bail!(
                "{}: the scores of labels are NaN or infinite; check the model's logit_scale and, if it \
                 was fine-tuned, its head",
                arguments.model.path.display()
            );
        }
        for (image, logits) in usable.iter().zip(logits.chunks_exact(labels.len())) {
            println!("{}", printable(image));
            let ranked = ranked(&labels, logits).into_iter().take(arguments.top);
            let mut shares = Vec::new();
            for (label, share) in ranked {
                println!("  {:6.2} %  {label}", 100.0 * share);
                shares.push(serde_json::json!({ "label": label, "probability": share }));
            }
            results.push(serde_json::json!({ "image": image, "labels": shares }));
        }
    }
    arguments.json.write(&results)?;
    Ok(exit_code(left_out, images.len(), "images"))
}

/// From normalised image features to `[images, labels]`.
type Logits = Box<dyn Fn(Tensor<2>) -> Tensor<2>>;

/// The classes that the model was fine-tuned to.
fn from_head(arguments: &ClassifyArguments) -> anyhow::Result<(Encoder, Vec<String>, Logits)> {
    let encoder = arguments.model.open_aloud()?;
    let Some(head) = encoder.head().cloned() else {
        bail!(
            "{}: the model has no classification head; give the labels to choose from with --labels",
            arguments.model.path.display()
        );
    };
    let logits = move |features| head.classifier.forward(features);
    Ok((encoder, head.class_names, Box::new(logits)))
}

/// The labels that are given, as a zero-shot classifier.
fn from_labels(arguments: &ClassifyArguments) -> anyhow::Result<(Encoder, Vec<String>, Logits)> {
    let labels: Vec<String> = arguments
        .labels
        .iter()
        .map(|label| label.trim().to_string())
        .collect();
    if labels.len() < 2 || labels.iter().any(String::is_empty) {
        bail!("--labels: expected at least two, separated by commas, such as \"a dog,a cat\"");
    }
    let templates = if arguments.template.is_empty() {
        vec![LABEL_ONLY.to_string()]
    } else {
        arguments.template.clone()
    };
    if let Some(problem) = template_problem(&templates) {
        bail!("--template: {problem}");
    }
    let encoder = arguments.model.open_aloud()?;
    let classifier = Classifier::new(&encoder, &labels, &templates)?;
    let scale: f32 = encoder.model().logit_scale.val().exp().into_scalar();
    let logits = move |features| classifier.scores(features).mul_scalar(scale);
    Ok((encoder, labels, Box::new(logits)))
}
