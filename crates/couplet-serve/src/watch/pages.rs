//! The pages themselves.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Html;

use super::watched::Watched;
use crate::api_error::ApiError;

/// Shown until a run has a log.
const BEGINS: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
    <link rel=\"icon\" href=\"data:,\"><meta name=\"color-scheme\" content=\"light dark\"><title>Couplet</title>\
    <p>The run begins; this page waits for its first lines.</p></html>";

/// `GET /`
pub(super) async fn home(State(watched): State<Arc<Watched>>) -> Result<Html<String>, ApiError> {
    let own = watched.clone();
    let _one_at_a_time = own.reading.lock().await;
    in_background(move || match watched.single() {
        Some(run) if !run.join("metrics.jsonl").is_file() => Ok(Html(BEGINS.to_string())),
        Some(run) => Ok(Html(
            watched
                .report(std::slice::from_ref(run), "/events", true)?
                .html(),
        )),
        None => Ok(Html(watched.list().html())),
    })
    .await
}

/// `GET /run?run=A&run=B`
pub(super) async fn runs(
    State(watched): State<Arc<Watched>>,
    RawQuery(query): RawQuery,
) -> Result<Html<String>, ApiError> {
    let query = query.unwrap_or_default();
    let own = watched.clone();
    let _one_at_a_time = own.reading.lock().await;
    in_background(move || {
        let runs = watched.named(&names(&query))?;
        if runs.is_empty() {
            return Err(ApiError::not_found("the address names no run"));
        }
        Ok(Html(
            watched
                .report(&runs, &format!("/events?{query}"), true)?
                .html(),
        ))
    })
    .await
}

/// The values of `run` in a query.
pub(super) fn names(query: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let runs = pairs.filter(|(key, _)| key == "run");
    runs.map(|(_, name)| name.into_owned()).collect()
}

pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal("the page could not be made"))?
}
