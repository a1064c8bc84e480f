//! Ranking of a sweep's trials by one metric of their logs.

use couplet_eval::{Better, MetricInfo};
use serde_json::Value as Json;

use crate::config::LoggedMetric;

/// The metric to rank by, and which of its values are better.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ranking {
    metric: LoggedMetric,
    better: Better,
}

impl Ranking {
    /// - goal: overrides the metric's own direction.
    ///
    /// # Errors
    /// With the metric, if it has no direction and there is no goal.
    pub fn new(metric: LoggedMetric, goal: Option<Better>) -> Result<Self, LoggedMetric> {
        match goal.or(metric.info.better) {
            Some(better) => Ok(Self { metric, better }),
            None => Err(metric),
        }
    }

    pub fn name(&self) -> &str {
        &self.metric.name
    }

    pub fn info(&self) -> MetricInfo {
        self.metric.info
    }

    /// Whether the goal is the opposite of the metric's own direction.
    pub fn is_reversed(&self) -> bool {
        let own = self.metric.info.better;
        own.is_some_and(|own| own != self.better)
    }

    /// A trial's value and its step. For an evaluation, the best value: its checkpoint can be kept.
    /// For a training metric, which is noisy, the mean over the last tenth of the lines.
    /// - log: the text of `metrics.jsonl`.
    pub fn value(&self, log: &str) -> Option<(f64, u64)> {
        let values = log.lines().filter_map(|line| {
            let line: Json = serde_json::from_str(line).ok()?;
            let value = line.get(&self.metric.name)?.as_f64()?;
            Some((value, line.get("step")?.as_u64()?))
        });
        let values: Vec<(f64, u64)> = values.collect();
        if self.metric.is_evaluation {
            let best = |best: (f64, u64), next: (f64, u64)| {
                let is_better = self.better.is_better(next.0, best.0);
                if is_better { next } else { best }
            };
            return values.into_iter().reduce(best);
        }
        let last = &values[values.len() - values.len().div_ceil(10)..];
        #[expect(clippy::cast_precision_loss, reason = "lines are far below 2^53")]
        let mean = last.iter().map(|(value, _)| value).sum::<f64>() / last.len() as f64;
        last.last().map(|(_, step)| (mean, *step))
    }

    /// Sorts results, best first; those without a value, or with NaN, are last.
    pub fn sort<T>(&self, results: &mut [T], value: impl Fn(&T) -> Option<f64>) {
        let key = |result: &T| value(result).unwrap_or(f64::NAN);
        results.sort_by(|a, b| self.better.compare(key(a), key(b)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_eval::metric::{LOSS, LR, SAMPLES_PER_SECOND, TEXT_TO_IMAGE_MEDIAN_RANK, TOP1};

    fn training(info: MetricInfo) -> LoggedMetric {
        LoggedMetric {
            name: info.name.into(),
            info,
            is_evaluation: false,
        }
    }

    fn evaluation(info: MetricInfo) -> LoggedMetric {
        LoggedMetric {
            name: info.logged_as("val"),
            info,
            is_evaluation: true,
        }
    }

    /// A log with these values, one every step from 1.
    fn log(name: &str, values: &[f64]) -> String {
        let line = |(at, value): (usize, &f64)| {
            let head = serde_json::json!({ "step": at + 1, "other": 9 });
            let mut line = head.as_object().unwrap().clone();
            line.insert(name.into(), (*value).into());
            serde_json::to_string(&line).unwrap() + "\n"
        };
        let lines: String = values.iter().enumerate().map(line).collect();
        // The last line of a killed run may be incomplete.
        lines + "{\"step\":"
    }

    #[test]
    fn a_metric_ranks_in_its_own_direction() {
        for (info, values, order) in [
            (TOP1, [0.2, 0.9, 0.5], [1, 2, 0]),
            (TEXT_TO_IMAGE_MEDIAN_RANK, [4.0, 1.0, 2.5], [1, 2, 0]),
            (LOSS, [4.1, 4.2, 0.3], [2, 0, 1]),
        ] {
            let ranking = Ranking::new(evaluation(info), None).unwrap();
            assert!(!ranking.is_reversed());
            let mut results: Vec<usize> = vec![0, 1, 2];
            ranking.sort(&mut results, |trial| Some(values[*trial]));
            assert_eq!(results, order, "{}", info.name);
        }
    }

    /// With a learning rate of 0 the loss stays at ln(batch), where good runs start too.
    #[test]
    fn the_lowest_loss_ranks_first_and_failed_trials_last() {
        let ranking = Ranking::new(training(LOSS), None).unwrap();
        let useless = ranking.value(&log("loss", &[4.2; 20]));
        let falling: Vec<f64> = (0..20).map(|at| 4.5 - 0.2 * f64::from(at)).collect();
        let good = ranking.value(&log("loss", &falling));
        let failed = ranking.value(&log("loss", &[]));
        assert_eq!((useless, failed), (Some((4.2, 20)), None));
        let mut results = [failed, useless, Some((f64::NAN, 20)), good];
        ranking.sort(&mut results, |result| result.map(|(value, _)| value));
        assert_eq!(results[..2], [good, useless]);
    }

    #[test]
    fn evaluations_count_by_their_best_value_and_training_by_its_last_lines() {
        let best = |info: MetricInfo, values: &[f64]| {
            let ranking = Ranking::new(evaluation(info), None).unwrap();
            ranking.value(&log(ranking.name(), values))
        };
        assert_eq!(best(TOP1, &[0.5, 0.8, 0.8, 0.7]), Some((0.8, 2)));
        assert_eq!(best(LOSS, &[2.0, 1.5, 1.75]), Some((1.5, 2)));
        // JSON has no NaN: serde writes null.
        assert_eq!(best(LOSS, &[f64::NAN, 1.75]), Some((1.75, 2)));
        let last = |info: MetricInfo, values: &[f64]| {
            let ranking = Ranking::new(training(info), None).unwrap();
            ranking.value(&log(ranking.name(), values))
        };
        let mut losses = [9.0; 20];
        losses[3] = 0.001;
        losses[18..].copy_from_slice(&[2.0, 3.0]);
        assert_eq!(last(LOSS, &losses), Some((2.5, 20)));
        assert_eq!(last(SAMPLES_PER_SECOND, &[500.0, 80.0]), Some((80.0, 2)));
    }

    #[test]
    fn a_goal_overrides_the_direction_and_a_metric_without_one_needs_it() {
        let ranking = Ranking::new(training(LOSS), Some(Better::Higher)).unwrap();
        assert!(ranking.is_reversed());
        let mut results = [1.0, 2.0];
        ranking.sort(&mut results, |value| Some(*value));
        assert_eq!(results, [2.0, 1.0]);
        assert!(
            !Ranking::new(training(LOSS), Some(Better::Lower))
                .unwrap()
                .is_reversed()
        );
        assert!(Ranking::new(training(LR), None).is_err());
        assert!(
            !Ranking::new(training(LR), Some(Better::Lower))
                .unwrap()
                .is_reversed()
        );
    }
}
