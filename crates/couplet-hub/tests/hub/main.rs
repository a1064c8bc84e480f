//! Tests against a hub on loopback, in one program, which links once.

mod downloads;
mod links;
mod model;
mod push;
mod python;
mod redirects;
mod refusals;
mod resume;
mod server;
mod trouble;

use couplet_hub::{ModelName, parse};

/// A name that is one.
fn name(text: &str) -> ModelName {
    parse(text).unwrap().unwrap()
}
