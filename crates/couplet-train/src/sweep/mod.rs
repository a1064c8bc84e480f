//! Many runs of one config with some keys set otherwise, ranked by one metric.
//!
//! Source: Radford et al. 2021, section 2.5: "a combination of grid searches, random
//! search, and manual tuning" on a small model.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use couplet_data::with_causes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::{
    CheckpointError, ConfigError, Observer, ResolvedRun, RunConfig, RunFolder, StopReason,
    StopSignal, TrainError, train,
};

/// What a finished trial leaves in its folder.
const DONE: &str = "trial.json";
/// The results so far, the best first.
const RANKING: &str = "ranking.json";

/// A sweep's TOML file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    pub name: String,
    /// The config of every trial.
    pub config: PathBuf,
    /// The number of `metrics.jsonl` that ranks, such as `eval/shapes/top1`: a trial's
    /// best one counts.
    pub metric: String,
    #[serde(default)]
    pub goal: Goal,
    #[serde(default)]
    pub search: Search,
    /// Keys that every trial sets, as `--set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// What is tried of each key: a list of values, or for random search a range.
    pub keys: Table,
}

/// Which values are good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    #[default]
    Max,
    Min,
}

/// How trials are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Search {
    /// Every combination.
    #[default]
    Grid,
    /// So many draws, each a pure function of seed, trial and key.
    Random {
        trials: usize,
        #[serde(default)]
        seed: u64,
    },
}

/// `{ min, max, scale }`: drawn evenly between, or evenly between the logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    min: f64,
    max: f64,
    #[serde(default)]
    scale: Scale,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scale {
    #[default]
    Linear,
    Log,
}

/// Why a sweep cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("{}: cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {message}", path.display())]
    Table {
        path: PathBuf,
        message: String,
        source: Option<Box<toml::de::Error>>,
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

/// What is wrong with a sweep's table.
#[derive(Debug)]
struct Problem {
    message: String,
    source: Option<Box<toml::de::Error>>,
}

impl Problem {
    fn caused_by(message: &str, source: toml::de::Error) -> Self {
        Self {
            message: message.to_string(),
            source: Some(Box::new(source)),
        }
    }
}

impl<T: Into<String>> From<T> for Problem {
    fn from(message: T) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }
}

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its folder within the sweep's.
    pub name: String,
    /// What it sets, as `--set` takes it.
    pub set: Vec<String>,
}

/// What a finished trial notes beside its run: what it was, so that a changed sweep runs
/// it again.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    config: String,
    seconds: f64,
    /// Why its numbers broke, if they did.
    error: Option<String>,
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialResult {
    pub trial: String,
    pub set: Vec<String>,
    /// The best value of the metric; none if the numbers broke.
    pub value: Option<f64>,
    /// When it was reached.
    pub step: Option<u64>,
    pub seconds: f64,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A sweep whose configs have all been read.
pub struct Sweep {
    table: SweepConfig,
    folder: PathBuf,
    trials: Vec<Trial>,
}

impl Sweep {
    /// Reads a sweep and the config of every trial, so that nothing starts with a mistake
    /// in the last of them.
    /// - folder: of the sweep; by default `runs/NAME`.
    ///
    /// # Errors
    /// If the file or a trial's config is unsound.
    pub fn read(path: &Path, folder: Option<&Path>) -> Result<Self, SweepError> {
        let text = fs::read_to_string(path).map_err(|source| SweepError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let unsound = |problem: Problem| SweepError::Table {
            path: path.to_path_buf(),
            message: problem.message,
            source: problem.source,
        };
        let table: SweepConfig = toml::from_str(&text)
            .map_err(|error| unsound(Problem::caused_by("not a sweep's TOML file", error)))?;
        let trials = table.trials().map_err(unsound)?;
        let folder = folder.map_or_else(|| Path::new("runs").join(&table.name), Path::to_path_buf);
        let sweep = Self {
            table,
            folder,
            trials,
        };
        for trial in &sweep.trials {
            let names = sweep.config(trial)?.metric_names();
            if !names.contains(&sweep.table.metric) {
                let (metric, there_are) = (&sweep.table.metric, names.join(", "));
                let message =
                    format!("metric: `{metric}` is never measured; there are {there_are}");
                return Err(unsound(message.into()));
            }
        }
        Ok(sweep)
    }

    /// The trials in the order in which they run.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// Where the trials' runs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The metric that ranks.
    pub fn metric(&self) -> &str {
        &self.table.metric
    }

    /// Runs one trial to its end, or goes on with it; one that is done is only read.
    /// - returns `None` if `stop` asked before the end.
    ///
    /// # Errors
    /// If data or disk fail. A loss that is not finite is a result.
    pub fn run(
        &self,
        trial: &Trial,
        stop: &StopSignal,
        observer: &mut dyn Observer,
    ) -> Result<Option<TrialResult>, SweepError> {
        let folder = self.folder.join(&trial.name);
        let checked = self.config(trial)?;
        let config = checked.config.to_toml();
        let done_path = folder.join(DONE);
        if let Some(done) = read_done(&done_path).filter(|done| done.config == config) {
            return self.result(trial, &folder, done).map(Some);
        }
        let run = RunFolder::resume(&folder, &checked.config).map_err(|source| {
            let trial = trial.name.clone();
            let source = Box::new(source);
            SweepError::Folder { trial, source }
        })?;
        let (seconds, error) = match train(&checked, &run, stop, observer) {
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

    /// What a finished trial reached.
    fn result(&self, trial: &Trial, folder: &Path, done: Done) -> Result<TrialResult, SweepError> {
        let best = match done.error {
            None => self.best_value(&RunFolder::metrics_of(folder))?,
            Some(_) => None,
        };
        Ok(TrialResult {
            trial: trial.name.clone(),
            set: trial.set.clone(),
            value: best.map(|(value, _)| value),
            step: best.map(|(_, step)| step),
            seconds: done.seconds,
            error: done.error,
        })
    }

    /// Sorts results, the best first and those without a value last, and writes them to
    /// the sweep's folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn rank(&self, results: &mut [TrialResult]) -> Result<PathBuf, SweepError> {
        let key = |result: &TrialResult| match (result.value, self.table.goal) {
            (Some(value), Goal::Max) => -value,
            (Some(value), Goal::Min) => value,
            (None, _) => f64::INFINITY,
        };
        results.sort_by(|a, b| key(a).total_cmp(&key(b)));
        let path = self.folder.join(RANKING);
        write_json(&path, &results)?;
        Ok(path)
    }

    fn config(&self, trial: &Trial) -> Result<ResolvedRun, SweepError> {
        let set = [&self.table.set[..], &trial.set].concat();
        RunConfig::read(&self.table.config, &set).map_err(|source| SweepError::Config {
            trial: trial.name.clone(),
            source: Box::new(source),
        })
    }

    /// The best value of the metric in a run's log, and its step.
    fn best_value(&self, metrics: &Path) -> Result<Option<(f64, u64)>, SweepError> {
        let text = fs::read_to_string(metrics).map_err(|source| SweepError::Io {
            path: metrics.to_path_buf(),
            source,
        })?;
        let values = text.lines().filter_map(|line| {
            let line: Json = serde_json::from_str(line).ok()?;
            let value = line.get(&self.table.metric)?.as_f64()?;
            Some((value, line.get("step")?.as_u64()?))
        });
        Ok(values.reduce(|best, next| {
            let better = match self.table.goal {
                Goal::Max => next.0 > best.0,
                Goal::Min => next.0 < best.0,
            };
            if better { next } else { best }
        }))
    }
}

impl SweepConfig {
    fn trials(&self) -> Result<Vec<Trial>, Problem> {
        if self.name.trim_matches(['.', ' ']).is_empty() || self.name.contains(['/', '\\']) {
            return Err("name: must be a plain name: the sweep's folder is called so".into());
        }
        if self.keys.is_empty() {
            return Err("keys: names nothing to try".into());
        }
        let sets = match self.search {
            Search::Grid => self.grid()?,
            Search::Random { trials: 0, .. } => {
                return Err("search.trials: must be at least 1".into());
            }
            Search::Random { trials, seed } => (0..trials)
                .map(|trial| self.draw(seed, trial as u64))
                .collect::<Result<_, _>>()?,
        };
        let mut trials: Vec<Trial> = Vec::new();
        for set in sets {
            let name = trial_name(&set);
            if trials.iter().all(|trial| trial.name != name) {
                trials.push(Trial { name, set });
            }
        }
        Ok(trials)
    }

    /// Every combination, the last key changing first.
    fn grid(&self) -> Result<Vec<Vec<String>>, Problem> {
        let mut sets: Vec<Vec<String>> = vec![Vec::new()];
        for (key, values) in &self.keys {
            let Value::Array(values) = values else {
                return Err(format!("keys.\"{key}\": a grid takes a list of values").into());
            };
            sets = sets
                .iter()
                .flat_map(|set| {
                    let with = |value| [&set[..], &[assignment(key, value)]].concat();
                    values.iter().map(with)
                })
                .collect();
        }
        if sets.is_empty() {
            return Err("keys: a list is empty".into());
        }
        Ok(sets)
    }

    fn draw(&self, seed: u64, trial: u64) -> Result<Vec<String>, Problem> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&trial.to_le_bytes());
        // One stream a trial: keys draw in their order.
        let mut rng = ChaCha8Rng::from_seed(bytes);
        let mut set = Vec::new();
        for (key, values) in &self.keys {
            let value = match values {
                Value::Array(values) if !values.is_empty() => {
                    values[rng.random_range(0..values.len())].clone()
                }
                Value::Table(_) => {
                    let range: Range = values.clone().try_into().map_err(|error| {
                        Problem::caused_by(&format!("keys.\"{key}\": not a range"), error)
                    })?;
                    Value::Float(
                        range
                            .at(rng.random())
                            .map_err(|message| format!("keys.\"{key}\": {message}"))?,
                    )
                }
                _ => {
                    return Err(format!(
                        "keys.\"{key}\": a list of values, or a range such as \
                         {{ min = 1e-4, max = 1e-2, scale = \"log\" }}"
                    )
                    .into());
                }
            };
            set.push(assignment(key, &value));
        }
        Ok(set)
    }
}

impl Range {
    /// - share: of the way from `min` to `max`, in [0, 1).
    fn at(self, share: f64) -> Result<f64, &'static str> {
        if !(self.min.is_finite() && self.max.is_finite() && self.min < self.max) {
            return Err("min must be below max");
        }
        match self.scale {
            Scale::Linear => Ok(self.min + share * (self.max - self.min)),
            Scale::Log if self.min > 0.0 => Ok(self.min * (self.max / self.min).powf(share)),
            Scale::Log => Err("a logarithmic range needs a positive min"),
        }
    }
}

/// Of what the trial sets, so that a sweep can grow: what was done keeps its folder.
fn trial_name(set: &[String]) -> String {
    // 64-bit FNV-1a, which stays the same in every release.
    let hash = set
        .join("\n")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("trial-{:08x}", hash >> 32)
}

fn assignment(key: &str, value: &Value) -> String {
    format!("{key}={value}")
}

fn read_done(path: &Path) -> Option<Done> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_json(path: &Path, value: &(impl Serialize + ?Sized)) -> Result<(), SweepError> {
    let text = serde_json::to_string_pretty(value).expect("results have a JSON form");
    let beside = path.with_extension("new");
    fs::write(&beside, text + "\n")
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|source| SweepError::Io {
            path: path.to_path_buf(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(more: &str) -> SweepConfig {
        let text = format!("name = \"s\"\nconfig = \"c.toml\"\nmetric = \"loss\"\n{more}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_grid_has_every_combination() {
        let grid = table("[keys]\n\"optimizer.lr\" = [1e-3, 1e-4]\nseed = [0, 1, 2]");
        let trials = grid.trials().unwrap();
        assert_eq!(trials.len(), 6);
        let larger = table("[keys]\nseed = [0, 1]\n").trials().unwrap();
        let small = table("[keys]\nseed = [1]\n").trials().unwrap();
        assert_eq!(larger[1], small[0]);
        assert_eq!(trials[1].set, ["optimizer.lr=0.001", "seed=1"]);
        assert_eq!(trials[5].set, ["optimizer.lr=0.0001", "seed=2"]);
    }

    #[test]
    fn draws_lie_in_their_range_and_repeat() {
        let table = table(
            "search = { kind = \"random\", trials = 40, seed = 3 }\n[keys]\n\
             \"optimizer.lr\" = { min = 1e-4, max = 1e-2, scale = \"log\" }\n\
             \"loss.kind\" = [\"softmax\", \"sigmoid\"]",
        );
        let trials = table.trials().unwrap();
        assert_eq!(trials, table.trials().unwrap());
        let rates: Vec<f64> = (trials.iter())
            .map(|trial| {
                trial.set[0]
                    .strip_prefix("optimizer.lr=")
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert!(rates.iter().all(|rate| (1e-4..1e-2).contains(rate)));
        // Half of a logarithmic range lies below its geometric mean.
        let low = rates.iter().filter(|rate| **rate < 1e-3).count();
        assert!((10..30).contains(&low), "{low}");
        let kinds: std::collections::HashSet<_> = trials.iter().map(|t| &t.set[1]).collect();
        assert_eq!(kinds.len(), 2);
    }

    #[test]
    fn what_cannot_be_searched_is_named() {
        for (more, message) in [
            ("[keys]", "names nothing"),
            ("[keys]\nseed = { min = 1, max = 2 }", "a grid takes a list"),
            ("[keys]\nseed = []", "a list is empty"),
            (
                "search = { kind = \"random\", trials = 2 }\n[keys]\nlr = { min = 0.0, max = 1.0, scale = \"log\" }",
                "needs a positive min",
            ),
        ] {
            let error = table(more).trials().unwrap_err();
            assert!(error.message.contains(message), "{error:?}");
        }
    }
}
