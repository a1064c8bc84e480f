//! Learning rates as pure functions of the step.

use serde::{Deserialize, Serialize};

use crate::duration::Duration;

/// The `[schedule]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ScheduleTable {
    Cosine(CosineTable),
}

/// Linear warm-up, then half a cosine down to 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosineTable {
    /// How long to train.
    pub length: Duration,
    /// Steps of linear warm-up, a part of `length`.
    #[serde(default = "no_warmup")]
    pub warmup: Duration,
}

fn no_warmup() -> Duration {
    Duration {
        amount: 0.0,
        unit: crate::Unit::Steps,
    }
}

impl ScheduleTable {
    /// How long to train.
    pub fn length(&self) -> Duration {
        match self {
            Self::Cosine(table) => table.length,
        }
    }

    /// Steps of linear warm-up.
    pub fn warmup(&self) -> Duration {
        match self {
            Self::Cosine(table) => table.warmup,
        }
    }
}

/// A schedule with its lengths in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub peak: f64,
    pub warmup_steps: u64,
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    ///
    /// Source: open_clip `cosine_lr`.
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let rest = (self.total_steps - self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / rest).min(1.0);
        0.5 * self.peak * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warmup_then_cosine_then_nothing() {
        let schedule = Schedule {
            peak: 2.0,
            warmup_steps: 4,
            total_steps: 12,
        };
        let close = |step, wanted: f64| {
            let rate = schedule.learning_rate(step);
            assert!((rate - wanted).abs() < 1e-12, "step {step}: {rate}");
        };
        close(0, 0.5);
        close(3, 2.0);
        close(4, 2.0);
        close(6, 1.0 + std::f64::consts::FRAC_1_SQRT_2);
        close(8, 1.0);
        close(12, 0.0);
        close(99, 0.0);
    }
}
