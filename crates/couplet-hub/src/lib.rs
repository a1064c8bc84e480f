//! Weights by name: a table of open_clip's pretrained models, downloads from the Hugging Face Hub, and uploads to it.
//!
//! [`parse`] reads a name, [`Hub::plan`] says what would be downloaded and under which licence, and [`Hub::fetch`] downloads and
//! checks it. Repositories go into huggingface_hub's own cache, in its layout and under its locks, so that each reads what the
//! other downloaded. Every file is checked before it gets its name: its size, and the hash of the table, of the hub's listing
//! and of the hub's headers.
//!
//! # Why not `hf-hub`
//!
//! The crate `hf-hub` 1.0 is asynchronous on reqwest and tokio, with the storage client `hf-xet` (about 280 crates in all).
//! Its downloads compare no hash and do not go on where an earlier one stopped, it uploads only by Xet, and it knows neither
//! links nor a mirror for them. What is left to write around it is nearly all of this crate. `ureq` 3 blocks, which suits a
//! command, has a timeout for each read, and needs 13 crates: with rustls and ring, which also computes the hashes and builds
//! faster than aws-lc. The system's certificates and those of `SSL_CERT_FILE` are used, so that companies' own are; Mozilla's
//! are there for containers that have none.

mod address;
mod answer;
mod cache;
mod choice;
mod client;
mod digest;
mod download;
mod environment;
mod error;
mod failure;
mod hints;
mod hub;
mod links;
mod listing;
mod names;
mod part;
mod plan;
mod pretrained;
mod progress;
mod push;
mod repositories;
mod settings;
mod target;
mod token;
mod waits;

pub use client::Interrupter;
pub use environment::Environment;
pub use error::HubError;
pub use hints::hint;
pub use hub::Hub;
pub use names::{ModelName, Repository, openai, parse};
pub use plan::{Fetched, Plan, PlannedFile};
pub use pretrained::{
    Activation, Licence, Preprocess, Pretrained, architecture, not_built, pretrained, tags_of,
};
pub use progress::Progress;
pub use push::{PushOptions, Pushed};
pub use settings::{Patience, Settings};
pub use token::Token;
