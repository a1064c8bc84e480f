//! The schedule, and all that is counted in steps, epochs or samples.

use super::super::tables::RunConfig;
use super::context::Check;
use crate::duration::{Duration, Sizes, Unit};
use crate::schedule::{Schedule, ScheduleConfig, Shape};

impl Check<'_> {
    pub(super) fn schedule(
        &mut self,
        config: &RunConfig,
        sizes: Option<Sizes>,
    ) -> Option<Schedule> {
        let (length, warmup) = (config.schedule.length(), config.schedule.warmup());
        let cooldown = config.schedule.cooldown();
        if matches!(length.unit, Unit::Percent | Unit::Minutes) {
            self.fail(
                "schedule.length",
                format!("`{length}`: expected steps, epochs or samples"),
            );
        } else if length.amount <= 0.0 {
            self.fail("schedule.length", format!("`{length}`: must be positive"));
        }
        for (key, part) in [("warmup", warmup), ("cooldown", cooldown)] {
            if part.unit == Unit::Minutes {
                self.fail(
                    &format!("schedule.{key}"),
                    format!("`{part}`: expected steps, epochs, samples or %"),
                );
            }
        }
        self.curve(&config.schedule);
        let lengths = ["schedule.length", "schedule.warmup", "schedule.cooldown"];
        if self.any_broken(&lengths) {
            return None;
        }
        let Some(sizes) = sizes else {
            // How many steps there are is unknown while the data is wrong; how many of a hundred is not.
            self.shares(warmup, cooldown);
            return None;
        };
        let total_steps = length.steps(sizes)?;
        let warmup_steps = warmup.steps_of(total_steps, sizes)?;
        let cooldown_steps = cooldown.steps_of(total_steps, sizes)?;
        if total_steps == 0 {
            self.fail(
                "schedule.length",
                format!("`{length}` is less than one step"),
            );
        } else if warmup_steps > total_steps {
            self.fail(
                "schedule.warmup",
                format!("{warmup_steps} steps, but the whole schedule has {total_steps}"),
            );
        } else if warmup_steps.saturating_add(cooldown_steps) > total_steps {
            self.fail(
                "schedule.cooldown",
                format!(
                    "{cooldown_steps} steps, with {warmup_steps} of warmup, are more than the \
                     {total_steps} of the schedule"
                ),
            );
        }
        Some(Schedule {
            peak: config.optimizer.settings().lr,
            warmup_steps,
            total_steps,
            shape: self.shape(&config.schedule, cooldown_steps, total_steps, sizes)?,
        })
    }

    /// Parts of the schedule that no length of it can have.
    fn shares(&mut self, warmup: Duration, cooldown: Duration) {
        let share = |part: Duration| {
            if part.unit == Unit::Percent {
                part.amount
            } else {
                0.0
            }
        };
        if share(warmup) > 100.0 {
            self.fail(
                "schedule.warmup",
                format!("`{warmup}`: is more than the whole schedule"),
            );
        } else if share(warmup) + share(cooldown) > 100.0 {
            let message =
                format!("`{cooldown}`, with `{warmup}` of warmup, is more than the whole schedule");
            self.fail("schedule.cooldown", message);
        }
    }

    /// The numbers of what follows the warmup.
    fn curve(&mut self, table: &ScheduleConfig) {
        let end = end_of(table);
        if !end.is_finite() || end < 0.0 {
            self.fail("schedule.end", "must be 0 or a positive learning rate");
        }
        if let ScheduleConfig::ConstantCooldown(table) = table
            && (!table.power.is_finite() || table.power <= 0.0)
        {
            self.fail("schedule.power", "must be a positive number");
        }
    }

    /// What follows the warmup.
    fn shape(
        &mut self,
        table: &ScheduleConfig,
        cooldown_steps: u64,
        total_steps: u64,
        sizes: Sizes,
    ) -> Option<Shape> {
        let end = end_of(table);
        match table {
            ScheduleConfig::Cosine(_) => Some(Shape::Cosine { end }),
            ScheduleConfig::Constant(_) => Some(Shape::Constant),
            ScheduleConfig::ConstantCooldown(table) => Some(Shape::ConstantCooldown {
                steps: cooldown_steps,
                end,
                power: table.power,
            }),
            ScheduleConfig::Rsqrt(table) => {
                let timescale = table.timescale.steps_of(total_steps, sizes);
                if timescale.is_none_or(|steps| steps == 0) {
                    let message =
                        format!("`{}`: must be a positive number of steps", table.timescale);
                    self.fail("schedule.timescale", message);
                }
                Some(Shape::Rsqrt {
                    timescale: timescale?,
                    cooldown_steps,
                })
            }
        }
    }

    /// A frequency in steps, at least 1.
    pub(super) fn every(
        &mut self,
        key: &str,
        every: Duration,
        sizes: Option<Sizes>,
    ) -> Option<u64> {
        if matches!(every.unit, Unit::Percent | Unit::Minutes) || every.amount <= 0.0 {
            self.fail(
                key,
                format!("`{every}`: must be a positive number of steps, epochs or samples"),
            );
            return None;
        }
        sizes
            .and_then(|sizes| every.steps(sizes))
            .map(|steps| steps.max(1))
    }
}

/// The last learning rate.
fn end_of(table: &ScheduleConfig) -> f64 {
    match table {
        ScheduleConfig::Cosine(table) => table.end,
        ScheduleConfig::ConstantCooldown(table) => table.end,
        ScheduleConfig::Constant(_) | ScheduleConfig::Rsqrt(_) => 0.0,
    }
}
