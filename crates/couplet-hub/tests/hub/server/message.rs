//! Requests, and what a server does with them.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a server does with a request.
#[derive(Clone)]
pub enum Reaction {
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The head and the first bytes of a body, then the end of the connection.
    Cut(u16, Vec<(&'static str, String)>, Vec<u8>, usize),
    /// As a hub would, but only the first bytes of the body.
    CutOwn(usize),
    /// As a hub would, but slowly: a pause after the first bytes.
    StallOwn(usize, Duration),
    /// These bytes as they are.
    Raw(Vec<u8>),
    /// A head without a length, then bytes without end.
    Endless,
}

impl Reaction {
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    pub fn error(status: u16, code: &'static str) -> Self {
        Self::Answer(
            status,
            vec![("X-Error-Code", code.to_owned())],
            b"{\"error\": \"no\"}".to_vec(),
        )
    }

    pub fn redirect(target: &str) -> Self {
        Self::Answer(302, vec![("Location", target.to_owned())], Vec::new())
    }

    pub fn json(value: &serde_json::Value) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Self::Answer(200, headers, value.to_string().into_bytes())
    }
}
