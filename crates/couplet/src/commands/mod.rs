//! The subcommands: the arguments of each, and what it does.

mod bar;
pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod completions;
pub(crate) mod config;
mod config_arguments;
pub(crate) mod data;
pub(crate) mod embed;
pub(crate) mod eval;
pub(crate) mod examples;
pub(crate) mod import;
pub(crate) mod index;
pub(crate) mod init;
mod inputs;
#[cfg(feature = "serve")]
mod listening;
pub(crate) mod man;
mod mixing;
pub(crate) mod model;
mod model_arguments;
#[cfg(feature = "hub")]
pub(crate) mod model_hub;
mod model_join;
mod model_merge;
mod numbers;
mod onnx_run;
pub(crate) mod output_file;
pub(crate) mod plan;
mod precision_name;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod search;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod sweep;
pub(crate) mod tokenize;
pub(crate) mod tokenizer;
pub(crate) mod train;
pub(crate) mod verify;
#[cfg(feature = "serve")]
pub(crate) mod watch;
