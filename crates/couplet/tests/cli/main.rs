//! The binary on tiny models: arguments, output, files and exit codes.

mod bad_images;
mod changes;
mod checkpoints;
mod config;
mod evaluation;
mod failures;
mod fine_tuning;
mod import;
mod kept_work;
mod models;
#[cfg(feature = "object-store")]
mod object_store;
mod resuming;
#[cfg(feature = "object-store")]
mod servers;
mod sweeps;
mod training;
mod workspace;
