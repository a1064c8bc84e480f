//! The binary on tiny models: arguments, output, files and exit codes.

mod adapting;
mod bad_images;
mod changes;
mod checkpoints;
mod config;
mod dataset_kinds;
mod documents;
mod evaluation;
mod failures;
mod few_shot;
mod fine_tuning;
mod flags;
mod import;
mod init;
mod kept_work;
mod mixes;
mod models;
#[cfg(feature = "hub")]
mod names;
#[cfg(feature = "object-store")]
mod object_store;
mod onnx;
mod pages;
mod parts;
mod paths;
mod printed;
#[cfg(unix)]
mod ranks;
mod resuming;
mod searching;
#[cfg(feature = "serve")]
mod server;
#[cfg(feature = "object-store")]
mod servers;
#[cfg(feature = "serve")]
mod serving;
mod sweeps;
mod terminal;
mod towers;
mod training;
#[cfg(feature = "serve")]
mod watching;
mod weights;
mod workspace;
