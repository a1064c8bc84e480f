//! Learning rates as pure functions of the step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{Duration, Unit};

/// `[schedule]`: linear warmup, then by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ScheduleConfig {
    /// Half a cosine from the peak down to `end`.
    Cosine(CosineConfig),
    /// The peak until the end.
    Constant(ConstantConfig),
    /// The peak, then down to `end` in the last steps.
    ConstantCooldown(ConstantCooldownConfig),
    /// The peak over the square root of the step.
    Rsqrt(RsqrtConfig),
}

/// `kind = "cosine"`: half a cosine from the peak down to `end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineConfig {
    /// How long to train, in steps, epochs or samples. A resumed run may be longer: from its last step
    /// on it has the learning rate of the longer cosine, which is higher than that of the shorter one.
    pub length: Duration,
    /// Length of the linear warmup from 0 to `optimizer.lr`; part of `length`.
    #[serde(default = "nothing")]
    pub warmup: Duration,
    /// Learning rate at the end.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub end: f64,
}

/// `kind = "constant"`: the peak until the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstantConfig {
    /// How long to train, in steps, epochs or samples. A resumed run may be longer: it goes on as if
    /// it had had the longer length from the beginning.
    pub length: Duration,
    /// Length of the linear warmup from 0 to `optimizer.lr`; part of `length`.
    #[serde(default = "nothing")]
    pub warmup: Duration,
}

/// `kind = "constant-cooldown"`: the peak, then down to `end`. Source: open_clip
/// `const_lr_cooldown`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstantCooldownConfig {
    /// How long to train, in steps, epochs or samples. A resumed run may be longer: it goes on as if
    /// it had had the longer length from the beginning, but for the part of a cooldown that is
    /// trained already.
    pub length: Duration,
    /// Length of the linear warmup from 0 to `optimizer.lr`; part of `length`.
    #[serde(default = "nothing")]
    pub warmup: Duration,
    /// Length of the cooldown to `end`; the last part of `length`.
    pub cooldown: Duration,
    /// Learning rate at the end.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub end: f64,
    /// Shape of the cooldown: 1 for a straight line, more for a curve that falls sooner.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub power: f64,
}

/// `kind = "rsqrt"`: the peak over the square root of the step. Source: Zhai et al. 2022,
/// "Scaling Vision Transformers"; big_vision `create_learning_rate_schedule`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RsqrtConfig {
    /// How long to train, in steps, epochs or samples. A resumed run may be longer: it goes on as if
    /// it had had the longer length from the beginning, but for the part of a cooldown that is
    /// trained already.
    pub length: Duration,
    /// Length of the linear warmup from 0 to `optimizer.lr`; part of `length`.
    #[serde(default = "nothing")]
    pub warmup: Duration,
    /// Length of the linear cooldown to 0; the last part of `length`.
    #[serde(default = "nothing")]
    pub cooldown: Duration,
    /// Number of steps after the warmup in which the learning rate falls by the square root of
    /// 2.
    #[serde(default = "ten_thousand_steps")]
    pub timescale: Duration,
}

fn nothing() -> Duration {
    Duration {
        amount: 0.0,
        unit: Unit::Steps,
    }
}

fn ten_thousand_steps() -> Duration {
    Duration {
        amount: 10_000.0,
        unit: Unit::Steps,
    }
}

fn one() -> f64 {
    1.0
}

impl ScheduleConfig {
    /// Half a cosine from the peak down to 0, without a warmup.
    pub fn cosine(length: Duration) -> Self {
        Self::Cosine(CosineConfig {
            length,
            warmup: nothing(),
            end: 0.0,
        })
    }

    /// The peak until the end, without a warmup.
    pub fn constant(length: Duration) -> Self {
        Self::Constant(ConstantConfig {
            length,
            warmup: nothing(),
        })
    }

    /// With a linear warmup from 0, which is part of the length.
    pub fn with_warmup(mut self, length: Duration) -> Self {
        let warmup = match &mut self {
            Self::Cosine(table) => &mut table.warmup,
            Self::Constant(table) => &mut table.warmup,
            Self::ConstantCooldown(table) => &mut table.warmup,
            Self::Rsqrt(table) => &mut table.warmup,
        };
        *warmup = length;
        self
    }

    /// How long to train.
    pub fn length(&self) -> Duration {
        match self {
            Self::Cosine(table) => table.length,
            Self::Constant(table) => table.length,
            Self::ConstantCooldown(table) => table.length,
            Self::Rsqrt(table) => table.length,
        }
    }

    /// Linear warm-up.
    pub fn warmup(&self) -> Duration {
        match self {
            Self::Cosine(table) => table.warmup,
            Self::Constant(table) => table.warmup,
            Self::ConstantCooldown(table) => table.warmup,
            Self::Rsqrt(table) => table.warmup,
        }
    }

    /// The last part, where the kind has one.
    pub fn cooldown(&self) -> Duration {
        match self {
            Self::Cosine(_) | Self::Constant(_) => nothing(),
            Self::ConstantCooldown(table) => table.cooldown,
            Self::Rsqrt(table) => table.cooldown,
        }
    }
}

/// A schedule with its lengths in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub peak: f64,
    pub warmup_steps: u64,
    pub total_steps: u64,
    pub shape: Shape,
}

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    Cosine { end: f64 },
    Constant,
    ConstantCooldown { steps: u64, end: f64, power: f64 },
    Rsqrt { timescale: u64, cooldown_steps: u64 },
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    ///
    /// Source: open_clip `cosine_lr`, `const_lr`, `const_lr_cooldown`; big_vision for
    /// the inverse square root.
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let behind_warmup = (step - self.warmup_steps) as f64;
        // From 0 at the start of the last `steps` to 1 behind them.
        let into_last = |steps: u64| {
            let start = self.total_steps.saturating_sub(steps);
            (step.saturating_sub(start) as f64 / steps.max(1) as f64).min(1.0)
        };
        match self.shape {
            Shape::Constant => self.peak,
            Shape::Cosine { end } => {
                let rest = (self.total_steps - self.warmup_steps).max(1) as f64;
                let done = (behind_warmup / rest).min(1.0);
                let fall = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                end + (self.peak - end) * fall
            }
            Shape::ConstantCooldown { steps, end, power } => {
                end + (self.peak - end) * (1.0 - into_last(steps)).powf(power)
            }
            Shape::Rsqrt {
                timescale,
                cooldown_steps,
            } => {
                let timescale = timescale.max(1) as f64;
                let fall = (timescale / (timescale + behind_warmup)).sqrt();
                self.peak * fall * (1.0 - into_last(cooldown_steps))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: Shape, expected: &[(u64, f64)]) {
        let schedule = Schedule {
            peak: 2.0,
            warmup_steps: 4,
            total_steps: 12,
            shape,
        };
        for (step, wanted) in [(0, 0.5), (3, 2.0)].iter().chain(expected) {
            let rate = schedule.learning_rate(*step);
            assert!(
                (rate - wanted).abs() < 1e-12,
                "{shape:?}, step {step}: {rate}"
            );
        }
    }

    #[test]
    fn a_cosine_falls_to_its_end() {
        let root = std::f64::consts::FRAC_1_SQRT_2;
        check(
            Shape::Cosine { end: 0.0 },
            &[(4, 2.0), (6, 1.0 + root), (8, 1.0), (12, 0.0), (99, 0.0)],
        );
        check(Shape::Cosine { end: 1.0 }, &[(4, 2.0), (8, 1.5), (12, 1.0)]);
    }

    #[test]
    fn a_constant_stays_and_a_cooldown_takes_its_last_steps() {
        check(Shape::Constant, &[(4, 2.0), (11, 2.0)]);
        let line = Shape::ConstantCooldown {
            steps: 4,
            end: 0.0,
            power: 1.0,
        };
        check(line, &[(8, 2.0), (9, 1.5), (11, 0.5), (12, 0.0)]);
        let curve = Shape::ConstantCooldown {
            steps: 4,
            end: 1.0,
            power: 2.0,
        };
        check(curve, &[(8, 2.0), (10, 1.25), (12, 1.0)]);
    }

    #[test]
    fn an_inverse_square_root_halves_at_three_timescales() {
        let shape = Shape::Rsqrt {
            timescale: 2,
            cooldown_steps: 0,
        };
        check(shape, &[(4, 2.0), (6, 2.0 / 2f64.sqrt()), (10, 1.0)]);
        let shape = Shape::Rsqrt {
            timescale: 2,
            cooldown_steps: 4,
        };
        check(shape, &[(10, 0.5), (12, 0.0)]);
    }
}
