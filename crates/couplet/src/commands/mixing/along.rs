//! Mixes along the line from a model to one that was fine-tuned from it. Source: Wortsman et al. 2022, "Robust
//! fine-tuning of zero-shot models" (WiSE-FT).

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use couplet_eval::{Better, Dataset, Encoder, Report, Unit};
use serde_json::{Value, json};

use super::plot::{Series, svg};
use super::{evaluate, mean, rounded, write};
use crate::commands::config_arguments::DataArguments;
use crate::commands::eval::datasets::open_datasets;
use crate::commands::output_file::{self, write_whole};
use crate::printing;
use crate::table::Table;
use crate::terminal;

/// The weights of the second model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Along(pub Vec<f64>);

/// More are a slip of the pen.
const MOST: usize = 1001;

impl FromStr for Along {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let number = |text: &str| {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| format!("`{text}` is not a number"))
        };
        let mut weights = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            if !["...", "…"].contains(part) {
                weights.push(number(part)?);
                continue;
            }
            let (Some(next), [.., first, second]) = (parts.get(at + 1), weights.as_slice()) else {
                return Err(
                    "`...` stands between two weights and the last one, as in 0,0.1,...,1".into(),
                );
            };
            let (last, from, step) = (number(next)?, *second, second - first);
            let count = (last - from) / step;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let is_sound = count.is_finite() && count > 0.0 && count < MOST as f64;
            if !is_sound || (count - count.round()).abs() > 1e-6 {
                return Err(format!("steps of {step} do not lead from {from} to {last}"));
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 1 to MOST"
            )]
            let count = count.round() as u32;
            // No digits that only rounding has.
            let exact = |at: u32| ((from + step * f64::from(at)) * 1e9).round() / 1e9;
            weights.extend((1..count).map(exact));
        }
        Ok(Self(weights))
    }
}

/// What is evaluated, and where results go.
pub(super) struct Line<'a> {
    pub models: [&'a Encoder; 2],
    pub datasets: &'a [PathBuf],
    pub data: &'a DataArguments,
    pub plot: Option<&'a Path>,
    pub out: Option<&'a Path>,
}

impl Line<'_> {
    /// - weights: of the second model.
    /// - returns the results as JSON.
    pub fn run(&self, weights: &[f64]) -> anyhow::Result<Value> {
        if let Some(file) = self.plot {
            output_file::check(file)?;
        }
        let datasets = open_datasets(self.datasets, self.data, self.models[0])?;
        let mut found: Vec<Vec<Report>> = Vec::new();
        for weight in weights {
            let mixed = self.mixed(*weight)?;
            let what = format!("{weight} of the second model");
            found.push(evaluate(&what, &mixed, &datasets)?);
        }
        let means: Vec<f64> = found.iter().map(|found| mean(found, &datasets)).collect();
        let best = best(&means);
        printing::block(&table(&datasets, weights, &found, best).render(terminal::table_columns()));
        if let Some(file) = self.plot {
            let series = series(&datasets, &found, &means);
            let text = svg("weight of the second model", weights, &series, best);
            write_whole(file, |path| Ok(fs::write(path, text)?))?;
            say!("picture    {}", file.display());
        }
        if let Some(out) = self.out {
            let weight = weights[best];
            let mixed = self.mixed(weight)?;
            write(
                &mixed,
                out,
                &format!("the best, with {weight} of the second model"),
            )?;
        }
        let rows = weights
            .iter()
            .zip(&found)
            .zip(&means)
            .map(|((weight, found), mean)| {
                let reports: Vec<_> = found.iter().collect();
                json!({ "weight": weight, "mean": rounded(*mean), "reports": reports })
            });
        Ok(json!({ "best": weights[best], "along": rows.collect::<Vec<_>>() }))
    }

    fn mixed(&self, weight: f64) -> anyhow::Result<Encoder> {
        let [first, second] = self.models;
        Ok(first.mixed(1.0 - weight, &[(second, weight)])?)
    }
}

/// The place of the largest value, the first of several.
fn best(values: &[f64]) -> usize {
    let places = 0..values.len();
    let best = places.min_by(|a, b| Better::Higher.compare(values[*a], values[*b]));
    best.unwrap_or(0)
}

fn table(datasets: &[Dataset], weights: &[f64], found: &[Vec<Report>], best: usize) -> Table {
    let names = datasets
        .iter()
        .zip(&found[0])
        .map(|(set, one)| format!("{} {}", set.name, one.headline(set.metric).0));
    let several = datasets.len() > 1;
    let head = ["weight".to_string()].into_iter().chain(names);
    let mut table = Table::new(head.chain(several.then(|| "mean".to_string())).collect());
    for (at, (weight, found)) in weights.iter().zip(found).enumerate() {
        let mark = if at == best { " best" } else { "" };
        let values = found
            .iter()
            .zip(datasets)
            .map(|(one, set)| Unit::Share.format(one.headline(set.metric).1));
        let row = [format!("{weight}{mark}")].into_iter().chain(values);
        table.row(
            row.chain(several.then(|| Unit::Share.format(mean(found, datasets))))
                .collect(),
        );
    }
    table
}

fn series(datasets: &[Dataset], found: &[Vec<Report>], means: &[f64]) -> Vec<Series> {
    let of = |at: usize| {
        found
            .iter()
            .map(|found| 100.0 * found[at].headline(datasets[at].metric).1)
            .collect()
    };
    let mut series: Vec<Series> = (datasets.iter().enumerate())
        .map(|(at, set)| Series {
            name: format!("{} ({})", set.name, found[0][at].headline(set.metric).0),
            values: of(at),
        })
        .collect();
    if datasets.len() > 1 {
        series.push(Series {
            name: "mean".to_string(),
            values: means.iter().map(|mean| 100.0 * mean).collect(),
        });
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_go_on_in_equal_steps() {
        let tenths = "0,0.1,...,1".parse::<Along>().unwrap().0;
        assert_eq!(tenths.len(), 11);
        assert_eq!(tenths[..4], [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(tenths[10], 1.0);
        assert_eq!(
            "0,0.25,…,1".parse::<Along>().unwrap().0,
            [0.0, 0.25, 0.5, 0.75, 1.0]
        );
        assert_eq!("0.5".parse::<Along>().unwrap().0, [0.5]);
        for wrong in ["", "0,...,1", "0,0.3,...,1", "0,0,...,1", "0,0.1,...", "a"] {
            assert!(wrong.parse::<Along>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_of_equal_mixes_is_the_best() {
        assert_eq!(best(&[f64::NAN, 0.1, 0.4, 0.4, 0.2]), 2);
    }
}
