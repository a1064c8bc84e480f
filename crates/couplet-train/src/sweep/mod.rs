//! Many runs of one config with different values of some keys, ranked by one metric.
//!
//! Source: Radford et al. 2021, section 2.5: "a combination of grid searches, random
//! search, and manual tuning" on a small model.

mod config;
mod problem;
mod ranking;
#[cfg(test)]
mod tests;
mod trials;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use couplet_data::paths::PathBase;
use couplet_data::with_causes;
use couplet_eval::{Better, MetricInfo};
use serde::{Deserialize, Serialize};
use toml::Table;

pub(crate) use self::config::sweep_schema;
pub use self::config::{Goal, Search, SweepConfig};
use self::problem::Problem;
use self::ranking::Ranking;
pub use self::trials::Trial;
use crate::checkpoint::{AllowedChanges, CheckpointError, RunFolder};
use crate::config::{
    ConfigError, ConfigInput, DeviceCheck, ResolvedRun, read_file, set_words_right,
};
use crate::observer::{Observer, StopReason, StopSignal};
use crate::trainer::{TrainError, train};

/// The file that a finished trial writes to its folder.
const DONE: &str = "trial.json";
/// The file of the results so far, best first.
const RANKING: &str = "ranking.json";

/// Why a sweep cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("{}: cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: cannot start the sweep", path.display())]
    Mistakes {
        path: PathBuf,
        source: Box<ConfigError>,
    },
    #[error("{trial}: cannot use the config")]
    Config {
        trial: String,
        source: Box<ConfigError>,
    },
    #[error("{trial}: cannot use the run's folder")]
    Folder {
        trial: String,
        source: Box<CheckpointError>,
    },
    #[error("{trial}: the run failed")]
    Train {
        trial: String,
        source: Box<TrainError>,
    },
}

/// What a finished trial records: its config, so that a changed sweep runs it again.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    config: String,
    seconds: f64,
    /// Why the trial has no result, if it failed.
    error: Option<String>,
}

/// The result of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialResult {
    /// The trial's name.
    pub trial: String,
    /// The values that it set, in the form of `--set`.
    pub set: Vec<String>,
    /// The value to rank by; `None` if the run failed.
    pub value: Option<f64>,
    /// The step of that value.
    pub step: Option<u64>,
    /// Seconds of training; 0 if the run failed.
    pub seconds: f64,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A sweep whose configs are all valid.
pub struct Sweep {
    config: SweepConfig,
    folder: PathBuf,
    trials: Vec<Trial>,
    ranking: Ranking,
}

impl Sweep {
    /// Reads a sweep and validates the config of every trial before any starts.
    /// - folder: of the sweep; by default `runs/NAME`.
    /// - data_root: replaces the folders of files as the start of paths to data.
    ///
    /// # Errors
    /// If the file or a trial's config is invalid.
    pub fn read(
        path: &Path,
        folder: Option<&Path>,
        data_root: Option<&Path>,
    ) -> Result<Self, SweepError> {
        let mistakes = |source: ConfigError| SweepError::Mistakes {
            path: path.to_path_buf(),
            source: Box::new(source),
        };
        let read = read_file::<SweepConfig>(path, sweep_schema());
        let (mut config, sources) = read.map_err(|error| match error {
            ConfigError::Io { path, source } => SweepError::Io { path, source },
            problems @ ConfigError::Problems { .. } => mistakes(problems),
        })?;
        let invalid = |problems: Vec<Problem>| {
            let issues = problems.into_iter().map(Problem::into_issue);
            mistakes(sources.clone().problems(issues.collect(), &[]))
        };
        let mut problems = config.problems();
        problems.extend(config.find_config(path, data_root).err());
        if !problems.is_empty() {
            return Err(invalid(problems));
        }
        let trials = config.trials().map_err(|problem| invalid(vec![problem]))?;
        let folder = folder.map_or_else(|| Path::new("runs").join(&config.name), Path::to_path_buf);
        let mut ranking = None;
        for trial in &trials {
            let own = config.ranking(&config.resolve(trial)?);
            let own = own.map_err(|problem| invalid(vec![problem]))?;
            ranking.get_or_insert(own);
        }
        Ok(Self {
            ranking: ranking.expect("there is a trial"),
            config,
            folder,
            trials,
        })
    }

    /// The trials in the order in which they run.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The folder of the trials' runs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The metric to rank by, as `metrics.jsonl` names it.
    pub fn metric(&self) -> &str {
        self.ranking.name()
    }

    /// The description of that metric.
    pub fn metric_info(&self) -> MetricInfo {
        self.ranking.info()
    }

    /// A warning to show before the first trial.
    pub fn warning(&self) -> Option<String> {
        let metric = self.metric();
        self.ranking.is_reversed().then(|| {
            let (goal, own) = match self.ranking.info().better {
                Some(Better::Lower) => ("max", "lower"),
                _ => ("min", "higher"),
            };
            format!(
                "goal = \"{goal}\" ranks the worst trials first, as {own} {metric} is better; remove \
                 `goal` to rank the best first"
            )
        })
    }

    /// Runs or resumes a trial; reads the result of one that is finished.
    /// - returns `None` if `stop` was set before the end.
    ///
    /// # Errors
    /// If the run fails. A loss that is not finite is not an error: the trial has no value.
    pub fn run(
        &self,
        trial: &Trial,
        stop: &StopSignal,
        observer: &mut dyn Observer,
    ) -> Result<Option<TrialResult>, SweepError> {
        let folder = self.folder.join(&trial.name);
        let run = self.config.resolve(trial)?;
        let config = run.config.to_toml();
        let done_path = folder.join(DONE);
        if let Some(done) =
            read_done(&done_path).filter(|done| is_same_config(&done.config, &config))
        {
            return self.result(trial, &folder, done).map(Some);
        }
        let run_folder =
            RunFolder::resume(&folder, &run, AllowedChanges::Harmless).map_err(|source| {
                let trial = trial.name.clone();
                let source = Box::new(source);
                SweepError::Folder { trial, source }
            })?;
        let (seconds, error) = match train(&run, &run_folder, stop, observer) {
            Ok(outcome) if outcome.ending == StopReason::Interrupted => return Ok(None),
            Ok(outcome) => (outcome.seconds, None),
            Err(error @ (TrainError::NotFinite { .. } | TrainError::F16Exhausted { .. })) => {
                (0.0, Some(with_causes(&error)))
            }
            Err(source) => {
                let trial = trial.name.clone();
                let source = Box::new(source);
                return Err(SweepError::Train { trial, source });
            }
        };
        let done = Done {
            config,
            seconds,
            error,
        };
        write_json(&done_path, &done)?;
        self.result(trial, &folder, done).map(Some)
    }

    /// The result of a finished trial.
    fn result(&self, trial: &Trial, folder: &Path, done: Done) -> Result<TrialResult, SweepError> {
        let found = match done.error {
            None => {
                let path = RunFolder::metrics_of(folder);
                let log =
                    fs::read_to_string(&path).map_err(|source| SweepError::Io { path, source })?;
                self.ranking.value(&log)
            }
            Some(_) => None,
        };
        Ok(TrialResult {
            trial: trial.name.clone(),
            set: trial.set.clone(),
            value: found.map(|(value, _)| value),
            step: found.map(|(_, step)| step),
            seconds: done.seconds,
            error: done.error,
        })
    }

    /// Sorts results, best first and those without a value last, and writes them to the sweep's
    /// folder.
    /// - returns the path of the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn rank(&self, results: &mut [TrialResult]) -> Result<PathBuf, SweepError> {
        self.ranking.sort(results, |result| result.value);
        let path = self.folder.join(RANKING);
        write_json(&path, &results)?;
        Ok(path)
    }
}

impl SweepConfig {
    /// Reads and validates the config of a trial.
    fn resolve(&self, trial: &Trial) -> Result<ResolvedRun, SweepError> {
        let set = [&self.set[..], &trial.set].concat();
        let input = ConfigInput {
            path: &self.config,
            set: &set,
            set_base: self.base.as_ref(),
            data_root: self.base.as_ref().and_then(PathBase::data_root),
        };
        let opened = ResolvedRun::open_input(&input, DeviceCheck::Local);
        opened.map_err(|source| SweepError::Config {
            trial: trial.name.clone(),
            source: Box::new(source),
        })
    }

    fn ranking(&self, run: &ResolvedRun) -> Result<Ranking, Problem> {
        let metrics = run.metrics();
        let Some(metric) = metrics.iter().find(|metric| metric.name == self.metric) else {
            let names: Vec<&str> = metrics.iter().map(|metric| &metric.name[..]).collect();
            let (metric, available) = (&self.metric, names.join(", "));
            let message =
                format!("metric: `{metric}` is never measured; expected one of {available}");
            return Err(message.into());
        };
        Ranking::new(metric.clone(), self.goal.map(Better::from)).map_err(|metric| {
            let name = metric.name;
            let message = format!(
                "goal: is required for `{name}`, for which neither high nor low values are better; set \
                 \"max\" or \"min\""
            );
            message.into()
        })
    }
}

/// Whether two saved configs say the same: that of an earlier version may have other words.
fn is_same_config(before: &str, now: &str) -> bool {
    let read = |text: &str| {
        let mut table: Table = text.parse().ok()?;
        set_words_right(&mut table);
        Some(table)
    };
    before == now || read(before).is_some_and(|before| Some(before) == read(now))
}

fn read_done(path: &Path) -> Option<Done> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_json(path: &Path, value: &(impl Serialize + ?Sized)) -> Result<(), SweepError> {
    let text = serde_json::to_string_pretty(value).expect("results serialise");
    let temporary = path.with_extension("new");
    fs::write(&temporary, text + "\n")
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|source| SweepError::Io {
            path: path.to_path_buf(),
            source,
        })
}
