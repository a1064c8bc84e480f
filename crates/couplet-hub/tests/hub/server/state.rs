//! What a server has, and what it was asked.

use std::collections::{BTreeMap, HashMap};

use super::message::{Reaction, Request};

/// Decides over a request before the server does; `None` lets it answer as a hub.
pub type Rule = Box<dyn FnMut(&Request) -> Option<Reaction> + Send>;

#[derive(Default)]
pub struct State {
    pub repositories: HashMap<String, Files>,
    /// Contents of the storage behind redirects, by SHA-256, and of links, by path.
    pub contents: HashMap<String, Vec<u8>>,
    pub requests: Vec<Request>,
    pub rules: Vec<Rule>,
    /// Whether listings have sizes and hashes.
    pub is_terse: bool,
    /// Bytes per part of an upload; one part without it.
    pub part_size: Option<usize>,
    /// Parts of uploads, by SHA-256.
    pub parts: HashMap<String, BTreeMap<usize, Vec<u8>>>,
    pub created: Vec<serde_json::Value>,
    pub commits: Vec<Vec<serde_json::Value>>,
}

/// A repository's files; those whose names end in `.safetensors`, `.bin` or `.model` are in LFS.
pub type Files = BTreeMap<String, Vec<u8>>;
