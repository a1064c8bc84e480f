//! A report: what the page shows, and the page.

use std::collections::{BTreeMap, BTreeSet};

use couplet_eval::MetricInfo;
use couplet_eval::metric::{Better, Unit};
use couplet_train::config::{ConfigDifference, config_differences};
use serde::Serialize;

use crate::page;
use crate::run::Run;

/// Runs side by side, on a page of their own.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The program that wrote it: `couplet 0.2.0`.
    program: String,
    runs: Vec<Run>,
    /// How each metric of the runs is shown, by its name in logs.
    metrics: BTreeMap<String, Shown>,
    differences: Vec<Difference>,
}

/// How a metric's values are shown.
#[derive(Debug, Serialize)]
struct Shown {
    unit: Option<&'static str>,
    /// What values are multiplied with.
    factor: f64,
    /// Digits after the point; `null` for significant ones.
    decimals: Option<u8>,
    /// `higher`, `lower`, or `null`.
    better: Option<&'static str>,
}

/// A key whose values differ between the configs.
#[derive(Debug, Serialize)]
struct Difference {
    key: String,
    /// For each run.
    values: Vec<Option<String>>,
}

impl Report {
    /// A report of runs, which are shown in this order.
    /// - program: name and version of what writes it.
    pub fn new(program: &str, mut runs: Vec<Run>) -> Self {
        let names: BTreeSet<&str> = runs.iter().map(Run::name).collect();
        if names.len() < runs.len() {
            for run in &mut runs {
                run.name_by_folder();
            }
        }
        let logged: BTreeSet<&str> = runs.iter().flat_map(Run::metrics).collect();
        let metrics = logged.into_iter().filter_map(|name| {
            let info = MetricInfo::of_logged(name)?;
            Some((name.to_string(), Shown::new(info)))
        });
        let metrics = metrics.collect();
        let texts: Option<Vec<String>> = runs.iter().map(Run::config).collect();
        // Without its configs, a run is shown all the same.
        let found = texts.and_then(|texts| config_differences(&texts).ok());
        let differences = found.unwrap_or_default().into_iter();
        let differences =
            differences.map(|ConfigDifference { key, values }| Difference { key, values });
        let differences = differences.collect();
        Self {
            program: program.to_string(),
            metrics,
            differences,
            runs,
        }
    }

    /// The page: one HTML file that asks for nothing else.
    pub fn html(&self) -> String {
        let title = match &self.runs[..] {
            [run] => run.name().to_string(),
            runs => format!("{} runs", runs.len()),
        };
        page::html(&title, self)
    }
}

impl Shown {
    fn new(info: MetricInfo) -> Self {
        let decimals = match info.unit {
            Unit::Share => Some(2),
            Unit::Rank => Some(1),
            Unit::Count | Unit::SamplesPerSecond => Some(0),
            Unit::Nats | Unit::Factor => Some(4),
            Unit::Scale => None,
        };
        Self {
            unit: info.unit.symbol(),
            factor: info.unit.shown(1.0),
            decimals,
            better: info.better.map(|better| match better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            }),
        }
    }
}
