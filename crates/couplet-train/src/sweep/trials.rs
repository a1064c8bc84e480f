//! The trials that a sweep's config asks for.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toml::Value;

use super::config::{Range, Search, SweepConfig};
use super::problem::Problem;

/// A run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Name of the trial's folder in the sweep's folder.
    pub name: String,
    /// The values that the trial sets, in the form of `--set`.
    pub set: Vec<String>,
}

impl SweepConfig {
    /// What is wrong with the name and each of the keys.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let one = |(key, values): (&String, &Value)| Self {
            keys: [(key.clone(), values.clone())].into_iter().collect(),
            ..self.clone()
        };
        let apart = self.keys.iter().map(one);
        let all = apart.chain(self.keys.is_empty().then(|| self.clone()));
        let mut problems: Vec<Problem> = self.check_name().err().into_iter().collect();
        for config in all {
            if let Err(problem) = config.sets()
                && !problems.contains(&problem)
            {
                problems.push(problem);
            }
        }
        problems
    }

    fn check_name(&self) -> Result<(), Problem> {
        if self.name.trim_matches(['.', ' ']).is_empty() || self.name.contains(['/', '\\']) {
            return Err(
                "name: must be a plain name without `/` or `\\`; it names the sweep's folder"
                    .into(),
            );
        }
        Ok(())
    }

    /// What each trial sets.
    fn sets(&self) -> Result<Vec<Vec<String>>, Problem> {
        if self.keys.is_empty() {
            return Err("keys: must list at least one key".into());
        }
        match self.search {
            Search::Grid => self.grid(),
            Search::Random { trials: 0, .. } => Err("search.trials: must be at least 1".into()),
            Search::Random { trials, seed } => (0..trials)
                .map(|trial| self.draw(seed, trial as u64))
                .collect(),
        }
    }

    pub(super) fn trials(&self) -> Result<Vec<Trial>, Problem> {
        self.check_name()?;
        let sets = self.sets()?;
        let mut trials: Vec<Trial> = Vec::new();
        for set in sets {
            let name = trial_name(&set);
            if trials.iter().all(|trial| trial.name != name) {
                trials.push(Trial { name, set });
            }
        }
        Ok(trials)
    }

    /// Every combination; the last key varies fastest.
    fn grid(&self) -> Result<Vec<Vec<String>>, Problem> {
        let mut sets: Vec<Vec<String>> = vec![Vec::new()];
        for (key, values) in &self.keys {
            let Value::Array(values) = values else {
                return Err(format!("keys.\"{key}\": a grid needs a list of values").into());
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
            let key = self.keys.keys().next().map_or("", String::as_str);
            return Err(format!("keys.\"{key}\": must not be an empty list").into());
        }
        Ok(sets)
    }

    fn draw(&self, seed: u64, trial: u64) -> Result<Vec<String>, Problem> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&trial.to_le_bytes());
        // One random stream per trial; the keys draw from it in order.
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
                        "keys.\"{key}\": expected a list of values, or a range such as \
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

/// A name derived from the trial's values, so that trials keep their folders when a sweep is
/// extended.
fn trial_name(set: &[String]) -> String {
    // 64-bit FNV-1a: the same in every release, unlike std's hash.
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
