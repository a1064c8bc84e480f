//! Answers of servers.

use std::io::Read;

use ureq::Body;
use ureq::http::HeaderMap;

use crate::address::Address;
use crate::error::{HubError, printable};
use crate::failure::Failure;

/// Bytes of an error's body that are read.
const ERROR_BODY: u64 = 64 * 1024;

/// An answer's head, and its body to read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Whose answer it is, after redirects.
    pub(crate) address: Address,
    /// What the hub said about the file, before it redirected elsewhere.
    pub(crate) linked: Linked,
}

/// The hub's headers about a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    /// Whether it speaks of content that is elsewhere.
    pub(crate) is_elsewhere: bool,
}

impl Answer {
    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    }

    /// A header that is a number; `None` also if it is something else.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name).and_then(|value| value.parse().ok())
    }

    /// The whole body, if it is not longer than `limit` bytes.
    pub(crate) fn read(self, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut reader = self
            .body
            .into_with_config()
            .limit(u64::MAX)
            .reader()
            .take(limit + 1);
        if let Err(source) = reader.read_to_end(&mut bytes) {
            return Err(Failure::passing(HubError::Unreachable {
                url: self.address.to_string(),
                attempts: 1,
                source,
            }));
        }
        if bytes.len() as u64 > limit {
            return Err(Failure::last(HubError::Endless {
                url: self.address.to_string(),
                limit,
            }));
        }
        Ok(bytes)
    }

    /// What the server says about a refusal: the hub's header, or the `error` of a JSON body.
    pub(crate) fn message(&mut self) -> String {
        if let Some(message) = self.header("x-error-message") {
            return printable(message);
        }
        let mut bytes = Vec::new();
        let mut reader = self.body.as_reader().take(ERROR_BODY);
        // A body that breaks off says nothing, and the status is known already.
        let _ = reader.read_to_end(&mut bytes);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let error = &value["error"];
        printable(
            error
                .as_str()
                .or_else(|| error["message"].as_str())
                .or_else(|| value["message"].as_str())
                .unwrap_or_default(),
        )
    }
}

impl Linked {
    /// Notes what the hub's answer says. What it says of a linked file stays; the storage behind may be at the same server.
    pub(crate) fn note(&mut self, answer: &Answer) {
        let clean = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if let Some(etag) = answer.header("x-linked-etag") {
            *self = Self {
                etag: Some(clean(etag)),
                size: answer.number("x-linked-size"),
                is_elsewhere: true,
            };
        } else if !self.is_elsewhere {
            let size = answer
                .number("content-length")
                .filter(|_| answer.status == 200);
            *self = Self {
                etag: answer.header("etag").map(clean),
                size,
                is_elsewhere: false,
            };
        }
    }
}
