//! A model that answers: zero-shot classification, embeddings, and search in an index.

mod body;
mod classifiers;
mod embeddings;
mod images;
mod inputs;
mod search;
mod served;
mod worker;
mod zero_shot;

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use couplet_pages::ELEMENTS;

use crate::listen::Routes;

pub use served::{Limits, Served};

const PAGE: &str = include_str!("../../assets/serve.html");
const STYLE: &str = include_str!("../../assets/serve.css");
const SCRIPT: &str = include_str!("../../assets/serve.js");

/// Bytes of a request at most: an image, as base64.
const MOST_BYTES: usize = 48 << 20;

/// The page of a model, and what programs ask it.
pub fn model_routes(served: Served) -> Routes {
    let asset = |kind: &'static str, text: &'static str| {
        get(move || async move {
            let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")];
            (headers, text).into_response()
        })
    };
    let routes = Router::new()
        .route("/", asset("text/html; charset=utf-8", PAGE))
        .route("/assets/serve.css", asset("text/css; charset=utf-8", STYLE))
        .route(
            "/assets/elements.js",
            asset("text/javascript; charset=utf-8", ELEMENTS),
        )
        .route(
            "/assets/serve.js",
            asset("text/javascript; charset=utf-8", SCRIPT),
        )
        .route("/api/model", get(served::describe))
        .route("/health", get(|| async { "ok" }))
        .route("/v1/models", get(served::list))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/zero-shot", post(zero_shot::classify))
        .route("/v1/search", post(search::search))
        .route("/v1/images/{row}", get(images::thumbnail))
        .with_state(Arc::new(served));
    Routes {
        routes,
        most_bytes: MOST_BYTES,
    }
}
