//! Writing the record of a run.

use std::fs;
use std::path::Path;
use std::sync::PoisonError;

use couplet_eval::checkpoint_name;
use couplet_ranks::Team;
use serde_json::{Value, json};

use super::RunFolder;
use super::error::CheckpointError;
use super::names::RECORD;
use super::record::{DataCounts, Program, Start};
use crate::comm::Comm;
use crate::config::ResolvedRun;
use crate::machine::Machine;
use crate::observer::RunSizes;
use crate::timestamp;

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
        comm: &Comm,
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
            total_steps: sizes.total_steps,
            resumed_from: self.latest().map(|found| checkpoint_name(found.step)),
            program: &program.name,
            commit: program.commit.as_deref(),
            features: &program.features,
            command: &program.command,
            working_dir: std::env::current_dir().unwrap_or_default(),
            machine,
            ranks: (comm.team().map_or(&[][..], Team::peers).iter())
                .map(|peer| peer.host.clone())
                .collect(),
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
        let mut entries = read_record(&self.path);
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

    /// Whether the run in folder `path` ever had several ranks.
    pub(crate) fn had_ranks(path: &Path) -> bool {
        read_record(path)
            .iter()
            .any(|start| start["ranks"].is_array())
    }

    fn write_record(&self, entries: &[Value]) -> Result<(), CheckpointError> {
        let record = json!({ "starts": entries });
        let text = serde_json::to_string_pretty(&record).expect("a record serialises");
        self.write_atomic(RECORD, &(text + "\n"))
    }
}

/// The entries so far; none if there is no record, or one that is damaged.
fn read_record(run: &Path) -> Vec<Value> {
    let bytes = fs::read(run.join(RECORD)).unwrap_or_default();
    let record: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    record["starts"].as_array().cloned().unwrap_or_default()
}
