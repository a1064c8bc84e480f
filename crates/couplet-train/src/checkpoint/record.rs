//! `record.json`: what ran, where and on what; one entry for each time that the run was started or resumed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use couplet_eval::checkpoint_name;
use serde::Serialize;
use serde_json::{Value, json};

use super::RunFolder;
use super::error::CheckpointError;
use super::names::RECORD;
use crate::config::ResolvedRun;
use crate::machine::Machine;
use crate::observer::RunSizes;
use crate::timestamp;

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
struct Start<'a> {
    started: String,
    /// `null` while the run lasts, and if it was killed.
    ended: Option<String>,
    /// `finished`, `interrupted`, or the error.
    outcome: Option<String>,
    /// Steps before this start.
    from_step: u64,
    /// Steps when it ended.
    to_step: Option<u64>,
    /// The checkpoint that it continued from.
    resumed_from: Option<String>,
    program: &'a str,
    commit: Option<&'a str>,
    features: &'a [String],
    command: &'a [String],
    working_dir: PathBuf,
    #[serde(flatten)]
    machine: Machine,
    /// Threads that decode samples.
    data_threads: usize,
    device: &'a str,
    precision: Value,
    parameters: usize,
    batch: u64,
    data: DataCounts,
}

/// What the run reads.
#[derive(Debug, Serialize)]
struct DataCounts {
    /// Samples of the training data; `null` for a stream of unknown length.
    train: Option<usize>,
    samples_per_epoch: usize,
    /// Images of each evaluation, by its name.
    evals: BTreeMap<String, usize>,
}

/// The entries of a run's record while it lasts.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Vec<Value>>);

impl RunFolder {
    /// States which program trains, for the run's record.
    #[must_use]
    pub fn with_program(mut self, program: Program) -> Self {
        self.program = program;
        self
    }

    /// Adds an entry to the record: the run begins, or goes on.
    pub(crate) fn record_start(
        &self,
        run: &ResolvedRun,
        sizes: &RunSizes,
    ) -> Result<(), CheckpointError> {
        let program = &self.program;
        let machine = Machine::this();
        let threads = match run.config.data.threads {
            0 => machine.cores,
            threads => threads,
        };
        let evals = run.evals.iter();
        let start = Start {
            started: timestamp::now(),
            ended: None,
            outcome: None,
            from_step: sizes.done_steps,
            to_step: None,
            resumed_from: self.latest().map(|found| checkpoint_name(found.step)),
            program: &program.name,
            commit: program.commit.as_deref(),
            features: &program.features,
            command: &program.command,
            working_dir: std::env::current_dir().unwrap_or_default(),
            machine,
            data_threads: threads,
            device: &sizes.device,
            precision: serde_json::to_value(run.config.precision).unwrap_or_default(),
            parameters: sizes.parameters,
            batch: sizes.batch_size,
            data: DataCounts {
                train: run.data.set.samples(),
                samples_per_epoch: sizes.samples_per_epoch,
                evals: evals
                    .map(|eval| (eval.name().to_string(), eval.images()))
                    .collect(),
            },
        };
        let mut entries = self.read_record();
        entries.push(serde_json::to_value(start).expect("an entry serialises"));
        self.write_record(&entries)?;
        *self.record.0.lock().unwrap_or_else(PoisonError::into_inner) = entries;
        Ok(())
    }

    /// Completes the entry of this process.
    /// - outcome: `finished`, `interrupted`, or the error.
    pub(crate) fn record_end(&self, outcome: &str, step: u64) -> Result<(), CheckpointError> {
        let mut entries = self.record.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.last_mut() else {
            return Ok(());
        };
        entry["ended"] = timestamp::now().into();
        entry["outcome"] = outcome.into();
        entry["to_step"] = step.into();
        self.check_in_place()?;
        self.write_record(&entries)
    }

    /// The entries so far; none if there is no record, or one that is damaged.
    fn read_record(&self) -> Vec<Value> {
        let bytes = fs::read(self.path.join(RECORD)).unwrap_or_default();
        let record: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        record["starts"].as_array().cloned().unwrap_or_default()
    }

    fn write_record(&self, entries: &[Value]) -> Result<(), CheckpointError> {
        let record = json!({ "starts": entries });
        let text = serde_json::to_string_pretty(&record).expect("a record serialises");
        self.write_atomic(RECORD, &(text + "\n"))
    }
}

/// What is wrong with the record of a run; it has none if an earlier version wrote it.
pub(crate) fn record_problem(run: &std::path::Path) -> Option<String> {
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
