//! `POST /v1/zero-shot`: which label an image has.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use burn::tensor::{Tensor, TensorData};
use couplet_data::formats::templates::{fill_template, template_problem};
use couplet_eval::ranked;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, AtMost};
use super::classifiers::{Prompts, Weights};
use super::inputs::{Checked, checked_text, image_bytes};
use super::served::Served;
use super::worker::Input;
use crate::api_error::ApiError;

/// Prompts of a request at most: labels times templates.
const MOST_PROMPTS: usize = 4096;
const MOST_TEMPLATES: usize = 512;
/// Bytes of a template, and of all prompts of a request, at most.
const MOST_OF_A_TEMPLATE: usize = 2000;
const MOST_BYTES: usize = 4 << 20;

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    image: String,
    #[serde(default)]
    labels: AtMost<String, MOST_PROMPTS>,
    #[serde(default)]
    templates: AtMost<String, MOST_TEMPLATES>,
}

const EXPECTED: &str = "{\"image\": \"data:image/…;base64,…\", \"labels\": [\"a dog\", \"a cat\"], \"templates\": [\"a photo of {}.\"]}";

pub(super) async fn classify(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Request = body::read(&served, &headers, body, ("image", EXPECTED)).await?;
    let image = Checked::Image(image_bytes(&request.image, "image")?);
    let labels = request.labels.0.into_iter();
    let labels = labels.map(|label| label.trim().to_string());
    let labels: Vec<String> = labels.filter(|label| !label.is_empty()).collect();
    let probabilities = if labels.is_empty() {
        let features = served.features(image, "image").await?;
        served.compute(move |own| own.by_head(features)).await?
    } else {
        let prompts = prompts(labels, request.templates.0)?;
        let features = served.features(image, "image").await?;
        let weights = served.weights(&prompts).await?;
        served.by_labels(&features, &prompts.labels, &weights)
    };
    let labels = probabilities
        .into_iter()
        .map(|(label, probability)| json!({ "label": label, "probability": probability }));
    Ok(Json(json!({ "labels": labels.collect::<Vec<_>>() })))
}

fn prompts(labels: Vec<String>, templates: Vec<String>) -> Result<Prompts, ApiError> {
    let labels = labels
        .into_iter()
        .map(|label| checked_text(label, "labels"));
    let labels: Vec<String> = labels.collect::<Result<_, _>>()?;
    if labels.len() < 2 {
        return Err(ApiError::invalid(
            "labels",
            "expected at least two labels to choose from",
        ));
    }
    let mut templates: Vec<String> = templates
        .into_iter()
        .filter(|one| !one.trim().is_empty())
        .collect();
    if templates.is_empty() {
        templates.push("{}".into());
    }
    if let Some(long) = templates.iter().find(|one| one.len() > MOST_OF_A_TEMPLATE) {
        let message = format!(
            "a template has {} bytes of at most {MOST_OF_A_TEMPLATE}",
            long.len()
        );
        return Err(ApiError::invalid("templates", message));
    }
    if let Some(problem) = template_problem(&templates) {
        return Err(ApiError::invalid("templates", problem));
    }
    let count = labels.len() * templates.len();
    if count > MOST_PROMPTS {
        let message = format!("{count} prompts (labels times templates) of at most {MOST_PROMPTS}");
        return Err(ApiError::invalid("labels", message));
    }
    // Before anything is filled in: a template may name the label many times.
    let places = templates.iter().map(|one| one.matches('{').count().max(1));
    let places: usize = places.sum();
    let bytes = places * labels.iter().map(String::len).sum::<usize>()
        + labels.len() * templates.iter().map(String::len).sum::<usize>();
    if bytes > MOST_BYTES {
        let message = format!("the prompts have about {bytes} bytes of at most {MOST_BYTES}");
        return Err(ApiError::invalid("templates", message));
    }
    Ok(Prompts { labels, templates })
}

impl Served {
    /// The features of labels: of each the mean of its prompts', L2-normalized.
    async fn weights(self: &Arc<Self>, prompts: &Prompts) -> Result<Weights, ApiError> {
        if let Some(weights) = self.classifiers.find(prompts) {
            return Ok(weights);
        }
        let asked = prompts.clone();
        let texts = self.compute(move |own| {
            let mut texts = Vec::new();
            for label in &asked.labels {
                for template in &asked.templates {
                    let text = fill_template(template, label);
                    own.tokens_of(&text, "labels")?;
                    texts.push(text);
                }
            }
            Ok(texts)
        });
        let mut features = Vec::new();
        let texts = texts.await?;
        // Not more at once than may wait.
        for some in texts.chunks(512) {
            let inputs = some.iter().map(|text| Input::Text(text.clone()));
            features.extend(self.worker.encode(inputs.collect()).await?);
        }
        let mean = |of_label: &[Vec<f32>]| {
            let mut sum = vec![0.0_f32; of_label[0].len()];
            for features in of_label {
                for (sum, value) in sum.iter_mut().zip(features) {
                    *sum += value;
                }
            }
            let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
            sum.iter().map(|value| value / norm).collect()
        };
        let weights: Weights =
            Arc::new(features.chunks(prompts.templates.len()).map(mean).collect());
        self.classifiers.keep(prompts.clone(), weights.clone());
        Ok(weights)
    }

    fn by_labels(&self, image: &[f32], labels: &[String], weights: &Weights) -> Vec<(String, f32)> {
        let scale: f32 = self.encoder.model().logit_scale.val().exp().into_scalar();
        let logit = |label: &Vec<f32>| -> f32 {
            scale * label.iter().zip(image).map(|(a, b)| a * b).sum::<f32>()
        };
        owned(ranked(
            labels,
            &weights.iter().map(logit).collect::<Vec<_>>(),
        ))
    }

    /// By the classes that the model was fine-tuned to.
    fn by_head(&self, features: Vec<f32>) -> Result<Vec<(String, f32)>, ApiError> {
        let Some(head) = self.encoder.head() else {
            let message =
                "expected at least two labels to choose from; the model has no classes of its own";
            return Err(ApiError::invalid("labels", message));
        };
        let width = features.len();
        let device = self.encoder.model().device();
        let features = Tensor::<2>::from_data(TensorData::new(features, [1, width]), &device);
        let logits = head.classifier.forward(features).into_data();
        let logits: Vec<f32> = logits
            .try_to_vec()
            .map_err(|_| ApiError::internal("the logits are not f32"))?;
        Ok(owned(ranked(&head.class_names, &logits)))
    }
}

fn owned(ranked: Vec<(&str, f32)>) -> Vec<(String, f32)> {
    let ranked = ranked.into_iter();
    ranked
        .map(|(label, share)| (label.to_string(), share))
        .collect()
}
