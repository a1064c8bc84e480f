//! `metrics.jsonl`, as columns.

use std::collections::BTreeMap;
use std::path::Path;

use couplet_eval::MetricInfo;
use couplet_eval::metric::{Better, EVALUATION, IMAGES, LOSS, SKIPPED};
use serde::Serialize;
use serde_json::{Map, Value};

use super::file::{ReadError, text_of};
use super::summary::BestValue;

/// Training lines that a page shows at most.
const MOST_LINES: usize = 4000;

/// Where in a run a line is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Place {
    pub step: u64,
    pub epoch: u64,
    pub samples_seen: u64,
    /// Seconds of training.
    pub time: f64,
}

impl Place {
    fn of(line: &Map<String, Value>) -> Option<Self> {
        Some(Self {
            step: line.get("step")?.as_u64()?,
            epoch: line.get("epoch")?.as_u64()?,
            samples_seen: line.get("samples_seen")?.as_u64()?,
            time: line.get("time")?.as_f64()?,
        })
    }
}

/// A value of an evaluation.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    #[serde(flatten)]
    pub place: Place,
    pub value: Option<f64>,
}

/// Changes of the config or data with which a run went on.
#[derive(Debug, Serialize)]
pub(super) struct Changes {
    #[serde(flatten)]
    pub place: Place,
    pub changes: Value,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Log {
    /// The training lines that are shown, and how many there are.
    pub places: Vec<Place>,
    pub lines: usize,
    /// Of each training metric, a value for each place.
    pub training: BTreeMap<String, Vec<Option<f64>>>,
    /// Where not all lines are shown: the means of the lines around each place, which a smoothed curve follows.
    pub means: BTreeMap<String, Vec<Option<f64>>>,
    /// Of each metric of an evaluation, by `eval/DATASET/METRIC`.
    pub evaluations: BTreeMap<String, Vec<Point>>,
    /// Images of each evaluation, and those that could not be read, by dataset.
    pub images: BTreeMap<String, [u64; 2]>,
    /// How often fp16 overflowed, and the steps before the first time.
    pub overflows: u64,
    pub first_overflow: Option<u64>,
    pub changes: Vec<Changes>,
    /// Lines that are no JSON or have no place.
    pub damaged_lines: usize,
}

impl Log {
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = text_of(path)?;
        let mut log = Self::default();
        let (lines, rest) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
        // A run may be writing its last line.
        let last = Some(rest).filter(|rest| serde_json::from_str::<Value>(rest).is_ok());
        for line in lines
            .lines()
            .chain(last)
            .filter(|line| !line.trim().is_empty())
        {
            let parsed = serde_json::from_str(line).ok();
            let parsed = parsed.and_then(|line| Some((Place::of(&line)?, line)));
            let Some((place, line)) = parsed else {
                log.damaged_lines += 1;
                continue;
            };
            if line.contains_key("skipped_step") {
                log.overflows += 1;
                log.first_overflow.get_or_insert(place.step);
            } else if let Some(changes) = line.get("changes") {
                let changes = changes.clone();
                log.changes.push(Changes { place, changes });
            } else if line.contains_key(LOSS.name) {
                log.training_line(place, line);
            } else {
                log.evaluation(place, &line);
            }
        }
        for column in log.training.values_mut() {
            column.resize(log.places.len(), None);
        }
        log.lines = log.places.len();
        log.thin();
        Ok(log)
    }

    fn training_line(&mut self, place: Place, line: Map<String, Value>) {
        let before = self.places.len();
        for (name, value) in line {
            if !["step", "epoch", "samples_seen", "time"].contains(&name.as_str()) {
                let column = self.training.entry(name).or_default();
                // A metric may begin later than the run.
                column.resize(before, None);
                column.push(value.as_f64());
            }
        }
        self.places.push(place);
    }

    /// Keeps about [`MOST_LINES`] of more lines: of equally many neighbours the first, those with the least and the largest
    /// loss, and the last line of all. So all numbers of a page are those of the log, and no spike of the loss is lost.
    #[expect(clippy::cast_precision_loss, reason = "lines are far below 2^52")]
    fn thin(&mut self) {
        if self.lines <= MOST_LINES {
            return;
        }
        let of_group = (3 * self.lines).div_ceil(MOST_LINES);
        let loss = &self.training[LOSS.name];
        // What is not finite is not a number in JSON.
        let rank = |at: &usize| loss[*at].unwrap_or(f64::INFINITY);
        let mut kept = Vec::new();
        for first in (0..self.lines).step_by(of_group) {
            let group = first..self.lines.min(first + of_group);
            let least = group.clone().min_by(|a, b| rank(a).total_cmp(&rank(b)));
            let largest = group.max_by(|a, b| rank(a).total_cmp(&rank(b)));
            kept.extend([Some(first), least, largest].into_iter().flatten());
        }
        kept.push(self.lines - 1);
        kept.sort_unstable();
        kept.dedup();
        for (name, column) in &mut self.training {
            let mean = |at: &usize| {
                let first = at / of_group * of_group;
                let group = &column[first..column.len().min(first + of_group)];
                let values: Vec<f64> = group.iter().copied().flatten().collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            let means = kept.iter().map(mean).collect();
            self.means.insert(name.clone(), means);
            *column = kept.iter().map(|at| column[*at]).collect();
        }
        self.places = kept.iter().map(|at| self.places[*at]).collect();
    }

    fn evaluation(&mut self, place: Place, line: &Map<String, Value>) {
        for (name, value) in line {
            let Some((dataset, metric)) =
                (name.strip_prefix(EVALUATION)).and_then(|name| name.rsplit_once('/'))
            else {
                continue;
            };
            let count = value.as_u64().unwrap_or(0);
            if metric == IMAGES.name {
                self.images.entry(dataset.to_string()).or_default()[0] = count;
            } else if metric == SKIPPED.name {
                self.images.entry(dataset.to_string()).or_default()[1] = count;
            } else {
                let value = value.as_f64();
                let points = self.evaluations.entry(name.clone()).or_default();
                points.push(Point { place, value });
            }
        }
    }

    /// The last line's place, of training or of an evaluation.
    pub fn last(&self) -> Option<Place> {
        let evaluated = self.evaluations.values().filter_map(|points| points.last());
        let places = evaluated
            .map(|point| point.place)
            .chain(self.places.last().copied());
        places.max_by_key(|place| place.step)
    }

    /// Of the last training line.
    pub fn loss(&self) -> Option<f64> {
        self.training.get(LOSS.name)?.last().copied().flatten()
    }

    /// The time of so many steps at the speed of the last training lines.
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^52")]
    pub fn seconds_of(&self, count: u64) -> Option<f64> {
        const LINES: usize = 20;
        let last = self.places.last()?;
        let before = self.places.get(self.places.len().saturating_sub(LINES))?;
        let steps = last
            .step
            .checked_sub(before.step)
            .filter(|steps| *steps > 0)?;
        Some((last.time - before.time) / steps as f64 * count as f64)
    }

    /// The best value of an evaluation's metric; the last where neither direction is better.
    pub fn best(&self, metric: &str) -> Option<BestValue> {
        let better = MetricInfo::of_logged(metric).and_then(|info| info.better);
        let values = self.evaluations.get(metric)?.iter();
        let values = values.filter_map(|point| Some((point.place.step, point.value?)));
        let (step, value) = values.reduce(|best, next| {
            let is_better = match better {
                Some(Better::Higher) => next.1 > best.1,
                Some(Better::Lower) => next.1 < best.1,
                None => true,
            };
            if is_better { next } else { best }
        })?;
        Some(BestValue {
            metric: metric.to_string(),
            value,
            step,
        })
    }

    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        let names = self.training.keys().chain(self.evaluations.keys());
        names.map(String::as_str)
    }
}
