//! What a run's folder says of the run.

mod file;
mod log;
mod messages;
mod skipped;
mod state;
mod summary;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use couplet_eval::metric::EVALUATION;
use couplet_eval::{Pointer, checkpoint_step, read_pointer};
use serde::Serialize;
use serde_json::Value;

pub use self::file::ReadError;
use self::log::Log;
use self::messages::Message;
use self::skipped::Skips;
pub use self::state::State;
use self::summary::Config;
pub use self::summary::{BestValue, Summary};
use crate::findings::Stored;

/// A run, as its folder tells it.
#[derive(Debug, Serialize)]
pub struct Run {
    name: String,
    folder: String,
    state: State,
    /// The entries of `record.json`, one for each start.
    starts: Vec<Value>,
    /// What its model gets wrong; `null` if nobody looked.
    findings: Option<Stored>,
    #[serde(flatten)]
    log: Log,
    skipped: Skips,
    warnings: Vec<Message>,
    /// The text of `config.toml`, and of it the model and the metric that chooses the best checkpoint.
    config: Option<String>,
    model: Option<String>,
    best_metric: Option<String>,
    /// The steps of the checkpoints that `best` and `latest` name.
    best: Option<u64>,
    latest: Option<u64>,
}

impl Run {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// If it is none, or a file cannot be read. Damaged lines are counted and left out.
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let log = log_of(folder)?;
        let starts = starts(folder);
        let config = fs::read_to_string(folder.join("config.toml")).ok();
        let Config { model, best_metric } = config.as_deref().map(Config::of).unwrap_or_default();
        let pointed = |file: &str| match read_pointer(folder, file) {
            Ok(Pointer::To(checkpoint)) => checkpoint_step(&checkpoint),
            _ => None,
        };
        Ok(Self {
            name: name_of(folder),
            folder: folder.display().to_string(),
            state: State::of(folder, &starts),
            log,
            skipped: Skips::read(&folder.join("skipped.jsonl"))?,
            warnings: messages::warnings(&folder.join("train.log"))?,
            config,
            model,
            best_metric,
            best: pointed("best"),
            latest: pointed("latest"),
            findings: None,
            starts,
        })
    }

    /// Adds what a look at its model and data found.
    pub fn with_findings(mut self, findings: Stored) -> Self {
        self.findings = Some(findings);
        self
    }

    pub(crate) fn findings(&self) -> Option<&Stored> {
        self.findings.as_ref()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the folder's path as its name.
    pub(crate) fn name_by_folder(&mut self) {
        self.name.clone_from(&self.folder);
    }

    /// The names of the metrics that it logged.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = &str> {
        self.log.metrics()
    }

    pub(crate) fn config(&self) -> Option<String> {
        self.config.clone()
    }
}

/// Values of a metric with their steps, in the log's order.
pub type Curve = Vec<(u64, f64)>;

/// The finite values of every metric of a run's evaluations, by `DATASET/METRIC`.
///
/// # Errors
/// If the folder is no run's, or its log cannot be read.
pub fn evaluations(folder: &Path) -> Result<BTreeMap<String, Curve>, ReadError> {
    let log = log_of(folder)?;
    let curves = log.evaluations.into_iter().map(|(name, points)| {
        let points = points.into_iter();
        let values = points.filter_map(|point| Some((point.place.step, point.value?)));
        let name = name.strip_prefix(EVALUATION).unwrap_or(&name).to_string();
        (name, values.collect())
    });
    Ok(curves.collect())
}

impl Summary {
    /// Reads what a line of a list says of the run in a folder.
    ///
    /// # Errors
    /// As [`Run::read`].
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let log = log_of(folder)?;
        let starts = starts(folder);
        let config = fs::read_to_string(folder.join("config.toml")).unwrap_or_default();
        let total_steps = starts
            .last()
            .and_then(|start| start["total_steps"].as_u64());
        let state = State::of(folder, &starts);
        let step = log.last().map_or(0, |place| place.step);
        let left = total_steps.filter(|_| state == State::Running);
        let left = left.map(|total| total.saturating_sub(step));
        let best = Config::of(&config).best_metric;
        Ok(Self {
            run: name_of(folder),
            folder: folder.display().to_string(),
            state,
            step,
            total_steps,
            seconds_left: left.and_then(|steps| log.seconds_of(steps)),
            loss: log.loss(),
            best: best.as_deref().and_then(|metric| log.best(metric)),
        })
    }
}

fn log_of(folder: &Path) -> Result<Log, ReadError> {
    let metrics = folder.join("metrics.jsonl");
    if !metrics.is_file() {
        return Err(ReadError::NotARun(folder.to_path_buf()));
    }
    Log::read(&metrics)
}

fn name_of(folder: &Path) -> String {
    let whole = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    let name = whole.file_name().unwrap_or(folder.as_os_str());
    name.to_string_lossy().into_owned()
}

fn starts(folder: &Path) -> Vec<Value> {
    let record = fs::read(folder.join("record.json")).ok();
    let record = record.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    match record {
        Some(Value::Object(mut record)) => match record.remove("starts") {
            Some(Value::Array(starts)) => starts,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
