//! Bodies of requests, read into no more than is asked for: a body of many small values would take far more memory than it has
//! bytes if it were read as any JSON.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::served::Served;
use crate::api_error::ApiError;

/// Reads a body, as one of the works that may take long.
/// - expected: the form, for whoever sends another; param: its first key.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(
    served: &Arc<Served>,
    headers: &HeaderMap,
    body: Bytes,
    (param, expected): (&'static str, &'static str),
) -> Result<T, ApiError> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        let message = "expected a body with content-type: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    served
        .compute(move |_| {
            serde_json::from_slice(&body)
                .map_err(|error| ApiError::invalid(param, format!("expected {expected}: {error}")))
        })
        .await
}

/// A list of at most so many values, which is not read further.
#[derive(Debug)]
pub(super) struct AtMost<T, const MOST: usize>(pub Vec<T>);

impl<T, const MOST: usize> Default for AtMost<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for AtMost<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for ListVisitor<T, MOST> {
    type Value = AtMost<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            if values.len() == MOST {
                return Err(A::Error::custom(format!("more than {MOST} in a list")));
            }
            values.push(value);
        }
        Ok(AtMost(values))
    }
}
