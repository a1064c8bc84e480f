//! A run in a line.

use couplet_eval::MetricInfo;
use serde::Serialize;
use toml::Value;

use super::state::State;

/// A run in a line of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub run: String,
    pub folder: String,
    pub state: State,
    pub step: u64,
    /// `null` for runs of earlier versions.
    pub total_steps: Option<u64>,
    /// Expected from the speed of the last lines; only while it runs, without evaluations to come.
    pub seconds_left: Option<f64>,
    /// Of the last line.
    pub loss: Option<f64>,
    /// Of the metric that `checkpoint.best` names.
    pub best: Option<BestValue>,
}

/// The best value of a metric.
#[derive(Debug, Clone, Serialize)]
pub struct BestValue {
    /// As in `metrics.jsonl`.
    pub metric: String,
    pub value: f64,
    pub step: u64,
}

impl BestValue {
    /// The value with its unit.
    pub fn shown(&self) -> String {
        match MetricInfo::of_logged(&self.metric) {
            Some(info) => info.unit.format(self.value),
            None => self.value.to_string(),
        }
    }
}

/// What lists say of a config.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub model: Option<String>,
    pub best_metric: Option<String>,
}

impl Config {
    /// - text: TOML; what is none says nothing.
    pub fn of(text: &str) -> Self {
        let Ok(config) = text.parse::<toml::Table>() else {
            return Self::default();
        };
        let text = |table: &str, key: &str| {
            let value = config.get(table)?.get(key).and_then(Value::as_str)?;
            (!value.is_empty()).then(|| value.to_string())
        };
        Self {
            model: text("model", "preset"),
            best_metric: text("checkpoint", "best"),
        }
    }
}
