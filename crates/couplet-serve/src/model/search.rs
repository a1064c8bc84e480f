//! `POST /v1/search`: images of the index that show what words say, or that look like an image.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use couplet_data::with_causes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::inputs::{Checked, checked_text, image_bytes};
use super::served::Served;
use crate::api_error::ApiError;

/// Images of an answer at most, and by default.
const MOST: usize = 1000;
const DEFAULT: usize = 24;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    text: Option<String>,
    image: Option<String>,
    row: Option<usize>,
    limit: Option<usize>,
}

pub(super) async fn search(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let expected = ("text", "one of text, image and row, and a limit");
    let request: Request = body::read(&served, &headers, body, expected).await?;
    let limit = request.limit.unwrap_or(DEFAULT);
    if limit == 0 || limit > MOST {
        return Err(ApiError::invalid("limit", format!("expected 1 to {MOST}")));
    }
    let index = served.index()?;
    let query = match (request.text, request.image, request.row) {
        (Some(text), None, None) => {
            let text = Checked::Text(checked_text(text, "text")?);
            served.features(text, "text").await?
        }
        (None, Some(image), None) => {
            let image = Checked::Image(image_bytes(&image, "image")?);
            served.features(image, "image").await?
        }
        (None, None, Some(row)) if row < index.len() => index.row_features(row).to_vec(),
        (None, None, Some(row)) => {
            let message = format!("there is no row {row}; the index has {}", index.len());
            return Err(ApiError::invalid("row", message));
        }
        _ => {
            let message = "expected one of text, image and row";
            return Err(ApiError::invalid("text", message));
        }
    };
    let rows = index.len();
    let found = served.compute(move |_| {
        let begin = Instant::now();
        let hits = index.search(&query, limit);
        let hits = hits.map_err(|error| ApiError::internal(with_causes(&error)))?;
        Ok((hits, begin.elapsed().as_secs_f64()))
    });
    let (hits, seconds) = found.await?;
    let hits = hits.into_iter().map(|hit| {
        json!({
            "row": hit.row,
            "score": hit.score,
            "file": hit.image.file,
            "key": hit.image.key,
            "caption": hit.image.captions.first(),
            "image": format!("/v1/images/{}", hit.row),
        })
    });
    Ok(Json(
        json!({ "rows": rows, "seconds": seconds, "hits": hits.collect::<Vec<_>>() }),
    ))
}
