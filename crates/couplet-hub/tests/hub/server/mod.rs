//! A server on loopback that speaks the hub's API, and misbehaves when it is told to.

mod api;
mod contents;
mod http;
mod listener;
mod message;
mod pushes;
mod state;

pub use contents::{COMMIT, content, git_hash, sha256};
pub use listener::Server;
pub use message::{Reaction, Request};
