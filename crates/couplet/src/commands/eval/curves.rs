//! Small curves of evaluations, of characters.

use std::collections::{BTreeMap, BTreeSet};

use couplet_eval::metric::EVALUATION;
use couplet_eval::{MetricInfo, Unit};
use couplet_pages::Curve;

use crate::table::Table;

/// Characters of a curve at most.
const WIDTH: usize = 32;
/// From the least to the largest value.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A row for each run below each metric: its values over the steps of all runs, on one scale.
/// - runs: names and curves by metric.
/// - returns `None` if no run has two values of a metric.
pub(super) fn table(runs: &[(&str, &BTreeMap<String, Curve>)]) -> Option<Table> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|(_, curves)| curves.keys()).collect();
    let mut table = Table::new(["curve", "steps", "values"].map(String::from).to_vec());
    let mut has_rows = false;
    for name in names {
        let own = runs
            .iter()
            .filter_map(|(run, curves)| Some((*run, curves.get(name)?)));
        let own: Vec<(&str, &Curve)> = own.collect();
        let steps: BTreeSet<u64> = own
            .iter()
            .flat_map(|(_, curve)| curve.iter().map(|(step, _)| *step))
            .collect();
        let values = || {
            own.iter()
                .flat_map(|(_, curve)| curve.iter().map(|(_, value)| *value))
        };
        let (low, high) = values()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            continue;
        };
        if first == last {
            continue;
        }
        let unit = MetricInfo::of_logged(&format!("{EVALUATION}{name}"))
            .map_or(Unit::Factor, |info| info.unit);
        has_rows = true;
        table.row(vec![
            name.clone(),
            format!("{first} to {last}"),
            format!("{} to {}", unit.format(low), unit.format(high)),
        ]);
        for (run, curve) in own {
            table.row(vec![
                format!("  {run}"),
                drawn(curve, &steps, low, high),
                String::new(),
            ]);
        }
    }
    has_rows.then_some(table)
}

/// - steps: of all runs, at least two; low, high: of the values of all runs.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "from 0 to 7"
)]
fn drawn(curve: &Curve, steps: &BTreeSet<u64>, low: f64, high: f64) -> String {
    let columns = steps.len().min(WIDTH);
    let mut found = vec![None; columns];
    let places: BTreeMap<u64, usize> = steps
        .iter()
        .enumerate()
        .map(|(at, step)| (*step, at))
        .collect();
    for (step, value) in curve {
        // Of several in a column, the last.
        found[places[step] * columns / steps.len()] = Some(*value);
    }
    // Between two values, the first of them holds.
    let end = found.iter().rposition(Option::is_some).unwrap_or(0);
    for at in 1..end {
        if found[at].is_none() {
            found[at] = found[at - 1];
        }
    }
    let height = |value: f64| {
        let share = if high > low {
            (value - low) / (high - low)
        } else {
            0.5
        };
        HEIGHTS[(share * (HEIGHTS.len() - 1) as f64).round() as usize]
    };
    let drawn = found.into_iter().map(|value| value.map_or(' ', height));
    drawn.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_share_their_steps_and_their_scale() {
        let curve =
            |values: &[(u64, f64)]| BTreeMap::from([("set/top1".to_string(), values.to_vec())]);
        let a = curve(&[(10, 0.0), (20, 0.5), (30, 1.0)]);
        let b = curve(&[(20, 0.25), (40, 0.75)]);
        let table = table(&[("a", &a), ("b", &b)]).unwrap().render(80);
        let wanted = [
            "  curve        steps            values",
            "  set/top1  10 to 40  0.00% to 100.00%",
            "    a           ▁▅█",
            "    b            ▃▃▆",
        ];
        let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(lines, wanted);
        let one = curve(&[(10, 0.5)]);
        assert!(super::table(&[("a", &one)]).is_none());
        // Many values keep their shape in few characters.
        let long: Curve = (0..1000_u16)
            .map(|at| (u64::from(at), f64::from(at)))
            .collect();
        let steps = long.iter().map(|(step, _)| *step).collect();
        let line = drawn(&long, &steps, 0.0, 999.0);
        assert_eq!(line.chars().count(), WIDTH);
        assert!(line.starts_with("▁▁") && line.ends_with("██"));
    }
}
