//! The warning that a model is overfitting.

use std::fs;
use std::path::Path;

use couplet_eval::metric::LOSS;
use serde_json::Value;

use crate::config::HELD_OUT;

/// Evaluations after the lowest held-out loss, all of them higher, before a warning.
const WORSE_EVALUATIONS: u32 = 3;
/// The relative rise of the held-out loss without a warning.
const RISE: f64 = 0.01;

/// How the losses of training and of held-out pairs develop.
#[derive(Debug, Default)]
pub(crate) struct Overfitting {
    /// Sum and number of the training losses since the last evaluation.
    losses: (f64, u32),
    /// The evaluation with the lowest held-out loss.
    lowest: Option<Point>,
    /// Evaluations since then.
    worse: u32,
    /// Whether this rise has been reported.
    is_reported: bool,
}

/// The losses at an evaluation.
#[derive(Debug, Clone, Copy)]
struct Point {
    step: u64,
    held_out: f64,
    /// Mean over the steps since the evaluation before.
    training: f64,
}

impl Overfitting {
    /// Takes note of a step's loss.
    pub fn observe_step(&mut self, loss: f64) {
        self.losses.0 += loss;
        self.losses.1 += 1;
    }

    /// What a resumed run knows of the losses so far.
    pub fn of_log(metrics: &Path) -> Self {
        let mut watched = Self::default();
        let text = fs::read_to_string(metrics).unwrap_or_default();
        let held_out = LOSS.logged_as(HELD_OUT);
        if !text.contains(&held_out) {
            return watched;
        }
        let lines = text.lines().map(serde_json::from_str::<Value>);
        for line in lines.filter_map(Result::ok) {
            if let Some(loss) = line[&held_out].as_f64() {
                let step = line["step"].as_u64().unwrap_or(0);
                // What is due was reported then.
                let _ = watched.observe_held_out(step, loss, true);
            } else if let Some(loss) = line[LOSS.name].as_f64() {
                watched.observe_step(loss);
            }
        }
        watched
    }

    /// The warning that is due after an evaluation of held-out pairs: their loss has risen over several
    /// evaluations while the training loss fell. It is given once for each rise.
    /// - keeps_best: whether the run keeps its best checkpoint.
    pub fn observe_held_out(&mut self, step: u64, loss: f64, keeps_best: bool) -> Option<String> {
        let (sum, count) = std::mem::take(&mut self.losses);
        if count == 0 {
            return None;
        }
        let now = Point {
            step,
            held_out: loss,
            training: sum / f64::from(count),
        };
        let Some(lowest) = self.lowest.filter(|lowest| lowest.held_out <= loss) else {
            self.lowest = Some(now);
            self.worse = 0;
            self.is_reported = false;
            return None;
        };
        self.worse += 1;
        let is_rising = self.worse >= WORSE_EVALUATIONS
            && now.held_out > lowest.held_out * (1.0 + RISE)
            && now.training < lowest.training;
        if !is_rising || self.is_reported {
            return None;
        }
        self.is_reported = true;
        let best = if keeps_best {
            String::new()
        } else {
            format!(
                "; `checkpoint.best = \"{}\"` keeps the best checkpoint",
                LOSS.logged_as(HELD_OUT)
            )
        };
        Some(format!(
            "the model is overfitting: since step {}, {} evaluations ago, the loss of held-out pairs has \
             risen from {:.3} to {:.3}, while the training loss fell from {:.3} to {:.3}. More data, \
             `[data.train.augment]`, a higher `optimizer.weight_decay` or a shorter \
             `schedule.length` help{best}",
            lowest.step, self.worse, lowest.held_out, now.held_out, lowest.training, now.training
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The warnings of evaluations with these losses of training and of held-out pairs.
    fn overfitting(losses: &[(f64, f64)], watched: &mut Overfitting) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        for (at, (training, held_out)) in losses.iter().enumerate() {
            for _ in 0..10 {
                watched.observe_step(*training);
            }
            let step = 10 * (at as u64 + 1);
            let text = watched.observe_held_out(step, *held_out, false);
            found.extend(text.map(|text| (step, text)));
        }
        found
    }

    #[test]
    fn a_held_out_loss_that_rises_while_training_goes_on_is_reported_once_per_rise() {
        let rise = [(2.0, 2.1), (1.5, 1.8), (1.2, 1.9), (1.0, 2.0), (0.9, 2.1)];
        let again = [(0.8, 2.2), (0.7, 1.7), (0.6, 1.8), (0.5, 1.9), (0.4, 2.0)];
        let found = overfitting(&[rise, again].concat(), &mut Overfitting::default());
        let steps: Vec<u64> = found.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [50, 100]);
        let text = &found[0].1;
        for part in [
            "since step 20, 3 evaluations ago",
            "from 1.800 to 2.100",
            "from 1.500 to 0.900",
            "`checkpoint.best = \"eval/val/loss\"`",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let healthy = [
            // Both rise: the learning rate is too high, which is another problem.
            [(1.5, 1.8), (1.6, 1.9), (1.7, 2.0), (1.8, 2.1), (1.9, 2.2)],
            // Noise around a minimum.
            [
                (1.5, 1.8),
                (1.4, 1.81),
                (1.3, 1.805),
                (1.2, 1.81),
                (1.1, 1.803),
            ],
        ];
        for losses in healthy {
            let found = overfitting(&losses, &mut Overfitting::default());
            assert_eq!(found, [], "{losses:?}");
        }
    }

    #[test]
    fn a_resumed_run_goes_on_watching_where_its_log_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step: u64, training: f64, held_out: f64| {
            format!(
                "{{\"step\":{step},\"loss\":{training}}}\n{{\"step\":{step},\"eval/val/loss\":{held_out}}}\n"
            )
        };
        let lines = [line(1, 1.5, 1.8), line(2, 1.2, 1.9), line(3, 1.0, 2.0)];
        std::fs::write(&path, lines.concat()).unwrap();
        let mut resumed = Overfitting::of_log(&path);
        assert_eq!(overfitting(&[(0.9, 2.1)], &mut resumed).len(), 1);
        std::fs::write(&path, lines.concat() + &line(4, 0.9, 2.1)).unwrap();
        let mut resumed = Overfitting::of_log(&path);
        assert_eq!(overfitting(&[(0.8, 2.2)], &mut resumed).len(), 0);
    }
}
