//! A report: what the page shows, and the page.

use std::collections::{BTreeMap, BTreeSet};

use couplet_eval::MetricInfo;
use couplet_eval::metric::{Better, Unit};
use couplet_train::config::{ConfigDifference, config_differences};
use serde::Serialize;

use crate::findings::{self, Stored};
use crate::page::{self, Kind};
use crate::run::Run;

/// Runs side by side, on a page of their own.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The program that wrote it: `couplet 0.2.0`.
    program: String,
    /// Where a server tells that the runs went on; `null` in a file.
    live: Option<String>,
    runs: Vec<Run>,
    /// How each metric of the runs is shown, by its name in logs.
    metrics: BTreeMap<String, Shown>,
    differences: Vec<Difference>,
    comparisons: Vec<Comparison>,
}

/// How the model of a run differs from that of the first on the same images.
#[derive(Debug, Serialize)]
struct Comparison {
    dataset: String,
    /// Its place among the runs.
    run: usize,
    #[serde(flatten)]
    difference: findings::Difference,
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
        let comparisons = comparisons(&runs);
        Self {
            program: program.to_string(),
            live: None,
            metrics,
            differences,
            comparisons,
            runs,
        }
    }

    /// A page that follows the runs.
    /// - events: the path at which the page's server sends reports.
    pub fn live(mut self, events: &str) -> Self {
        self.live = Some(events.to_string());
        self
    }

    /// What the page shows, as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("reports serialise")
    }

    /// The page: one HTML file that asks for nothing else.
    pub fn html(&self) -> String {
        let title = match &self.runs[..] {
            [run] => run.name().to_string(),
            runs => format!("{} runs", runs.len()),
        };
        page::html(Kind::Report, &title, self)
    }
}

/// Each later run with the first, on every dataset that the models of both were shown.
fn comparisons(runs: &[Run]) -> Vec<Comparison> {
    let Some(first) = runs.first().and_then(Run::findings) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for (dataset, base) in first.predictions() {
        for (at, run) in runs.iter().enumerate().skip(1) {
            let own = run.findings().into_iter().flat_map(Stored::predictions);
            let own = own.filter(|(name, _)| *name == dataset);
            let found = own.filter_map(|(_, own)| findings::difference(own, base));
            all.extend(found.map(|difference| Comparison {
                dataset: dataset.to_string(),
                run: at,
                difference,
            }));
        }
    }
    all
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
