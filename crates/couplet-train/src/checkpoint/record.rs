//! `record.json`: what ran, where and on what; one entry for each time that the run was started or resumed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;
use serde_json::Value;

use super::names::RECORD;
use crate::machine::Machine;

/// The program that trains, as a run's record states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Name and version: `couplet 0.1.0`.
    pub name: String,
    /// The commit that it was built from, if that is known.
    pub commit: Option<String>,
    /// The command line.
    pub command: Vec<String>,
    /// The cargo features that it was built with.
    pub features: Vec<String>,
}

impl Default for Program {
    /// This process, as a program that uses the library.
    fn default() -> Self {
        let arguments = std::env::args_os().map(|one| one.to_string_lossy().into_owned());
        Self {
            name: concat!("couplet-train ", env!("CARGO_PKG_VERSION")).to_string(),
            commit: None,
            command: arguments.collect(),
            features: Vec::new(),
        }
    }
}

/// An entry: a start of the run.
#[derive(Debug, Serialize)]
pub(super) struct Start<'a> {
    pub started: String,
    /// `null` while the run lasts, and if it was killed.
    pub ended: Option<String>,
    /// `finished`, `interrupted`, or the error.
    pub outcome: Option<String>,
    /// Steps before this start.
    pub from_step: u64,
    /// Steps when it ended.
    pub to_step: Option<u64>,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// The checkpoint that it continued from.
    pub resumed_from: Option<String>,
    pub program: &'a str,
    pub commit: Option<&'a str>,
    pub features: &'a [String],
    pub command: &'a [String],
    pub working_dir: PathBuf,
    #[serde(flatten)]
    pub machine: Machine,
    /// The machine of each rank, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<String>,
    /// Threads that decode samples.
    pub data_threads: usize,
    pub device: &'a str,
    pub precision: Value,
    pub parameters: usize,
    pub batch: u64,
    pub data: DataCounts,
}

/// What the run reads.
#[derive(Debug, Serialize)]
pub(super) struct DataCounts {
    /// Samples of the training data; `null` for a stream of unknown length.
    pub train: Option<usize>,
    pub samples_per_epoch: usize,
    /// Images of each evaluation, by its name.
    pub evals: BTreeMap<String, usize>,
}

/// The entries of a run's record while it lasts.
#[derive(Debug, Default)]
pub(super) struct Record(pub Mutex<Vec<Value>>);

/// What is wrong with the record of a run; it has none if an earlier version wrote it.
pub(crate) fn record_problem(run: &Path) -> Option<String> {
    let path = run.join(RECORD);
    if !path.is_file() {
        return None;
    }
    let read = fs::read(&path).map_err(|error| error.to_string());
    let parsed = read.and_then(|bytes| {
        serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string())
    });
    match parsed {
        Ok(record) if record["starts"].is_array() => None,
        Ok(_) => Some(format!("{RECORD} lists no starts")),
        Err(error) => Some(format!("{RECORD}: {error}")),
    }
}
