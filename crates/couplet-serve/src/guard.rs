//! What every request must be, whoever answers it: one of this server's own page, or of a program.
//!
//! A page of another origin that a browser shows cannot use a server on the same machine. It would say so in `Origin` or
//! `Sec-Fetch-Site`, which scripts cannot change; a name that it lets point to this machine ("DNS rebinding") is in `Host`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::api_error::ApiError;

/// Bodies in memory at a time, and how long a client may take to send one.
const BODIES: usize = 8;
const BODY: Duration = Duration::from_secs(30);
/// A request is answered within this time, or not at all. Streams of events begin within it.
const ANSWER: Duration = Duration::from_mins(2);

/// Scripts and styles of a page are its own; a report has them inside.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; \
                      script-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'";

/// Routes behind what every request must be.
/// - most_bytes: of a body.
pub(crate) fn guarded(routes: Router, most_bytes: usize, address: SocketAddr) -> Router {
    let places = Arc::new(Semaphore::new(BODIES));
    routes
        .fallback(|| async { ApiError::not_found("there is nothing at this path") })
        // The body is there when a route gets it, and no longer than it may be.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(
            (places, most_bytes),
            buffered,
        ))
        .layer(middleware::from_fn_with_state(address, answer))
}

/// Reads the body before anything is done, and keeps its place until the answer is there.
async fn buffered(
    State((places, most_bytes)): State<(Arc<Semaphore>, usize)>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, Body::empty())).await;
    }
    let Ok(_place) = places.acquire().await else {
        return ApiError::busy().into_response();
    };
    let error = match tokio::time::timeout(BODY, to_bytes(body, most_bytes)).await {
        Ok(Ok(bytes)) => {
            return next
                .run(Request::from_parts(parts, Body::from(bytes)))
                .await;
        }
        Ok(Err(_)) => {
            let message = format!("the request is larger than {most_bytes} bytes, or was cut off");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        }
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request took too long to arrive",
        ),
    };
    error.into_response()
}

async fn answer(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let refused = refusal(request.headers(), request.uri().path(), address);
    let mut response = if let Some(message) = refused {
        ApiError::new(StatusCode::FORBIDDEN, message).into_response()
    } else {
        let answered = tokio::time::timeout(ANSWER, next.run(request)).await;
        answered.unwrap_or_else(|_| {
            let message = "the answer took too long";
            ApiError::new(StatusCode::REQUEST_TIMEOUT, message).into_response()
        })
    };
    let headers = response.headers_mut();
    let mut set = |name, value| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(CACHE_CONTROL, "no-store");
    // Pictures, too, are for the server's own page alone, also in browsers that do not say where a request comes from.
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    response
}

/// Why a request is not answered.
fn refusal(headers: &HeaderMap, path: &str, address: SocketAddr) -> Option<&'static str> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(host) = text(HOST.as_str()) else {
        return Some("the request names no host");
    };
    if !is_own(host, address) {
        return Some(
            "the request is for another host; open the server by its address or as localhost",
        );
    }
    let is_foreign = text(ORIGIN.as_str()).is_some_and(|origin| {
        let own = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        own != Some(host)
    });
    // Whoever follows a link, or types the address, gets the page; nothing else.
    let is_page = path == "/" || path.starts_with("/run");
    let is_navigation =
        text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document");
    let from = text("sec-fetch-site");
    let is_cross = from.is_some_and(|site| site != "same-origin" && site != "none");
    if is_foreign || (is_cross && !(is_page && is_navigation)) {
        return Some("pages of other origins cannot use this server");
    }
    None
}

/// Whether a host is this server, by a name that nobody else can let point to it. The port may be that of a forwarding.
/// - host: with or without a port.
fn is_own(host: &str, address: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    // Every address of the machine is its own, if the server listens on more than loopback; that of no machine never is.
    let is_reachable = |ip: IpAddr| ip.is_loopback() || !address.ip().is_loopback();
    name.parse()
        .is_ok_and(|ip: IpAddr| !ip.is_unspecified() && is_reachable(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&'static str, &'static str)], path: &str, address: &str) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        refusal(&headers.collect(), path, address.parse().unwrap()).is_some()
    }

    #[test]
    fn only_the_servers_own_page_and_programs_are_answered() {
        let here = "127.0.0.1:7860";
        let host = ("host", "127.0.0.1:7860");
        assert!(!refused(&[host], "/v1/search", here));
        assert!(!refused(&[("host", "localhost:7860")], "/", here));
        assert!(!refused(&[("host", "[::1]:7860")], "/", here));
        assert!(!refused(
            &[host, ("origin", "http://127.0.0.1:7860")],
            "/v1/search",
            here
        ));
        assert!(refused(&[], "/", here));
        // Names that others can let point here.
        assert!(refused(&[("host", "evil.example:7860")], "/", here));
        assert!(refused(&[("host", "127.0.0.1.evil.example")], "/", here));
        assert!(refused(&[("host", "10.0.0.7:7860")], "/", here));
        assert!(refused(&[("host", "0.0.0.0:7860")], "/", here));
        assert!(refused(&[("host", "[::]:7860")], "/", "0.0.0.0:7860"));
        // A forwarded port.
        assert!(!refused(&[("host", "localhost:8000")], "/", here));
        // Pages of others: scripts, images, forms and frames.
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:7861",
            "http://localhost:7860",
        ] {
            assert!(
                refused(&[host, ("origin", origin)], "/v1/search", here),
                "{origin}"
            );
        }
        let cross = ("sec-fetch-site", "cross-site");
        assert!(refused(
            &[host, cross, ("sec-fetch-mode", "no-cors")],
            "/v1/images/3",
            here
        ));
        assert!(refused(
            &[host, ("sec-fetch-site", "same-site")],
            "/events",
            here
        ));
        let navigate = [
            host,
            cross,
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(!refused(&navigate, "/", here));
        assert!(refused(&navigate, "/v1/images/3", here));
        let frame = [
            host,
            cross,
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "iframe"),
        ];
        assert!(refused(&frame, "/", here));
        // An address that others reach, perhaps through a forwarded port.
        assert!(!refused(&[("host", "10.0.0.7:80")], "/", "0.0.0.0:7860"));
        assert!(refused(
            &[("host", "gpu.example:7860")],
            "/",
            "0.0.0.0:7860"
        ));
    }
}
