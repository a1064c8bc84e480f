//! Lengths that carry their unit.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nearest::nearest;

/// A length of training, such as `"2000 steps"`, `"1 epoch"`, `"1M samples"`, `"3 %"` or
/// `"10 minutes"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Duration {
    pub amount: f64,
    pub unit: Unit,
}

/// What a length is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Steps,
    Epochs,
    Samples,
    /// Of the whole schedule.
    Percent,
    /// Of wall-clock time.
    Minutes,
}

/// The sizes that turn a length into steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub steps_per_epoch: u64,
    pub batch_size: u64,
}

impl Duration {
    /// A length such as 2 epochs.
    pub fn new(amount: f64, unit: Unit) -> Self {
        Self { amount, unit }
    }

    /// The length in whole steps, rounded; `None` for minutes and percentages.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "amounts are positive and far below 2^53"
    )]
    pub(crate) fn steps(self, sizes: Sizes) -> Option<u64> {
        let steps = match self.unit {
            Unit::Steps => self.amount,
            Unit::Epochs => self.amount * sizes.steps_per_epoch as f64,
            Unit::Samples => self.amount / sizes.batch_size as f64,
            Unit::Percent | Unit::Minutes => return None,
        };
        Some(steps.round() as u64)
    }

    /// As [`Self::steps`], with percentages taken of `whole` steps.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "amounts are positive and far below 2^53"
    )]
    pub(crate) fn steps_of(self, whole: u64, sizes: Sizes) -> Option<u64> {
        match self.unit {
            Unit::Percent => Some((self.amount / 100.0 * whole as f64).round() as u64),
            _ => self.steps(sizes),
        }
    }
}

/// A text that is no number with a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", not_a_length(.0))]
pub struct ParseDurationError(String);

const UNITS: [&str; 9] = [
    "step", "steps", "epoch", "epochs", "sample", "samples", "minute", "minutes", "%",
];

fn not_a_length(text: &str) -> String {
    let number = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.trim()[number.len()..].trim();
    let is_number = !number.starts_with(['-', '+']) && number.parse::<f64>().is_ok();
    if !is_number || UNITS.contains(&unit) {
        return format!(
            "`{text}` is not a length; write a number and a unit, such as \"2000 steps\", \"1 epoch\", \
             \"1M samples\", \"3 %\" or \"10 minutes\""
        );
    }
    if unit.is_empty() {
        return format!(
            "`{text}` has no unit; write \"{number} steps\", \"{number} epochs\" or \"{number} samples\""
        );
    }
    match nearest(unit, UNITS) {
        Some(meant) => format!("`{unit}` is not a unit; did you mean \"{number} {meant}\"?"),
        None => format!(
            "`{unit}` is not a unit; the units are steps, epochs, samples (k, M and B multiply them), % \
             and minutes"
        ),
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        let expected = || ParseDurationError(text.to_string());
        let text_start = text.trim();
        let unit_at = text_start
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
            .ok_or_else(expected)?;
        let (number, rest) = text_start.split_at(unit_at);
        let number: f64 = number.replace('_', "").parse().map_err(|_| expected())?;
        let (factor, unit) = match rest.chars().next() {
            Some('k') => (1e3, &rest[1..]),
            Some('M') => (1e6, &rest[1..]),
            Some('B') => (1e9, &rest[1..]),
            _ => (1.0, rest),
        };
        let unit = match unit.trim() {
            "step" | "steps" => Unit::Steps,
            "epoch" | "epochs" => Unit::Epochs,
            "sample" | "samples" => Unit::Samples,
            "%" => Unit::Percent,
            "minute" | "minutes" => Unit::Minutes,
            _ => return Err(expected()),
        };
        let amount = number * factor;
        if !amount.is_finite() {
            return Err(expected());
        }
        Ok(Self { amount, unit })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::float_cmp, reason = "only exactly one is singular")]
        let one = self.amount == 1.0;
        let unit = match (self.unit, one) {
            (Unit::Steps, true) => "step",
            (Unit::Steps, false) => "steps",
            (Unit::Epochs, true) => "epoch",
            (Unit::Epochs, false) => "epochs",
            (Unit::Samples, true) => "sample",
            (Unit::Samples, false) => "samples",
            (Unit::Percent, _) => "%",
            (Unit::Minutes, true) => "minute",
            (Unit::Minutes, false) => "minutes",
        };
        write!(f, "{} {unit}", self.amount)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a length with its unit, such as \"50 steps\" or \"1 epoch\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of training: a number (`k`, `M` and `B` multiply it) and a unit.",
            "pattern": r"^\s*([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]*[0-9][0-9_]*)[kMB]?\s*(steps?|epochs?|samples?|%|minutes?)\s*$",
            "examples": ["2000 steps", "1 epoch", "1M samples", "3 %", "10 minutes"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        steps_per_epoch: 40,
        batch_size: 100,
    };

    fn steps(text: &str) -> Option<u64> {
        text.parse::<Duration>().unwrap().steps_of(1000, SIZES)
    }

    #[test]
    fn every_unit_becomes_steps() {
        assert_eq!(steps("2_000 steps"), Some(2000));
        assert_eq!(steps("1 epoch"), Some(40));
        assert_eq!(steps("0.5 epochs"), Some(20));
        assert_eq!(steps("1k samples"), Some(10));
        assert_eq!(steps("1M samples"), Some(10_000));
        assert_eq!(steps("3 %"), Some(30));
        assert_eq!(steps("5 minutes"), None);
    }

    #[test]
    fn what_is_no_length_says_how_to_write_one() {
        for (text, advice) in [
            ("", "\"1 epoch\""),
            ("epochs", "\"1 epoch\""),
            ("-1 steps", "\"1 epoch\""),
            ("1..5 steps", "\"1 epoch\""),
            (
                "30",
                "`30` has no unit; write \"30 steps\", \"30 epochs\" or",
            ),
            (
                "3 weeks",
                "`weeks` is not a unit; the units are steps, epochs",
            ),
            ("3 epch", "did you mean \"3 epoch\"?"),
            ("1.5 Epochs", "did you mean \"1.5 epochs\"?"),
        ] {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert!(error.contains(advice), "{error}");
        }
    }

    #[test]
    fn printing_and_parsing_agree() {
        for text in ["1 epoch", "2000 steps", "3 %", "10 minutes", "1.5 epochs"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
    }
}
