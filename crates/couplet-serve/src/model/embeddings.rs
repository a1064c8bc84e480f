//! `POST /v1/embeddings`, in OpenAI's form, of texts and of images.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::body::{self, AtMost};
use super::inputs::RawInput;
use super::served::Served;
use crate::api_error::ApiError;

/// Inputs of a request at most.
const MOST: usize = 512;

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    input: Inputs,
    #[serde(default)]
    encoding_format: Format,
    dimensions: Option<usize>,
}

/// One input, or a list of some.
#[derive(Debug)]
struct Inputs(Vec<RawInput>);

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text of one value; what it holds is read as one or as several.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let read = if raw.get().starts_with('[') {
            serde_json::from_str::<AtMost<RawInput, MOST>>(raw.get()).map(|list| list.0)
        } else {
            serde_json::from_str(raw.get()).map(|one| vec![one])
        };
        read.map(Self).map_err(D::Error::custom)
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Float,
    Base64,
}

const EXPECTED: &str = "{\"input\": …} with a text, an image as {\"image\": \"data:image/…;base64,…\"}, or a list of at most 512 \
                        of these, and encoding_format as float or base64; lists of token ids are not taken";

pub(super) async fn embed(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Answer>, ApiError> {
    let request: Request = body::read(&served, &headers, body, ("input", EXPECTED)).await?;
    let width = served.encoder.spec().embed_dim;
    if let Some(dimensions) = request.dimensions
        && dimensions != width
    {
        let message = format!("the model's embeddings have {width} dimensions");
        return Err(ApiError::invalid("dimensions", message));
    }
    let Inputs(inputs) = request.input;
    if inputs.is_empty() {
        return Err(ApiError::invalid(
            "input",
            format!("expected 1 to {MOST} inputs"),
        ));
    }
    let prepared = served.compute(move |own| {
        let one = |(at, input): (usize, RawInput)| {
            let param = format!("input[{at}]");
            own.prepared(input.check(&param)?, &param)
        };
        inputs
            .into_iter()
            .enumerate()
            .map(one)
            .collect::<Result<Vec<_>, _>>()
    });
    let (inputs, tokens): (Vec<_>, Vec<usize>) = prepared.await?.into_iter().unzip();
    let tokens: usize = tokens.into_iter().sum();
    let features = served.worker.encode(inputs).await?;
    let data = features
        .into_iter()
        .enumerate()
        .map(|(index, features)| Item {
            object: "embedding",
            index,
            embedding: match request.encoding_format {
                Format::Float => Values::Float(features),
                Format::Base64 => {
                    let bytes = features.iter().flat_map(|value| value.to_le_bytes());
                    Values::Base64(STANDARD.encode(bytes.collect::<Vec<u8>>()))
                }
            },
        });
    Ok(Json(Answer {
        object: "list",
        data: data.collect(),
        model: served.name.clone(),
        usage: Usage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    }))
}

#[derive(Debug, Serialize)]
pub(super) struct Answer {
    object: &'static str,
    data: Vec<Item>,
    model: String,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Values,
}

/// The values, or their little-endian bytes.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Values {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}
