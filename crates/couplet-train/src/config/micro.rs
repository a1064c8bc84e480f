//! `batch.micro`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const AUTO: &str = "auto";

/// How many pairs one forward and backward pass has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatch {
    Pairs(usize),
    /// As many as fit into the device's memory.
    Auto,
}

impl MicroBatch {
    /// The number, unless the device's memory decides.
    pub fn pairs(self) -> Option<usize> {
        match self {
            Self::Pairs(pairs) => Some(pairs),
            Self::Auto => None,
        }
    }
}

impl From<usize> for MicroBatch {
    fn from(pairs: usize) -> Self {
        Self::Pairs(pairs)
    }
}

impl Serialize for MicroBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Pairs(pairs) => pairs.serialize(serializer),
            Self::Auto => serializer.serialize_str(AUTO),
        }
    }
}

impl<'de> Deserialize<'de> for MicroBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl Visitor<'_> for Value {
            type Value = MicroBatch;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of pairs, or \"auto\"")
            }

            fn visit_i64<E: Error>(self, pairs: i64) -> Result<MicroBatch, E> {
                let found = usize::try_from(pairs).ok();
                found
                    .map(MicroBatch::Pairs)
                    .ok_or_else(|| E::invalid_value(Unexpected::Signed(pairs), &self))
            }

            fn visit_u64<E: Error>(self, pairs: u64) -> Result<MicroBatch, E> {
                let found = usize::try_from(pairs).ok();
                found
                    .map(MicroBatch::Pairs)
                    .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(pairs), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MicroBatch, E> {
                if text == AUTO {
                    return Ok(MicroBatch::Auto);
                }
                Err(E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for MicroBatch {
    fn schema_name() -> Cow<'static, str> {
        "MicroBatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of pairs, or \"auto\".",
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": AUTO }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Table {
        micro: MicroBatch,
    }

    #[test]
    fn a_number_or_auto() {
        for (text, wanted) in [
            ("micro = 64\n", MicroBatch::Pairs(64)),
            ("micro = \"auto\"\n", MicroBatch::Auto),
        ] {
            let table: Table = toml::from_str(text).unwrap();
            assert_eq!(table.micro, wanted);
            assert_eq!(toml::to_string(&table).unwrap(), text);
        }
        for text in ["micro = -1", "micro = \"most\"", "micro = 1.5"] {
            let error = toml::from_str::<Table>(text).unwrap_err().to_string();
            assert!(error.contains("a number of pairs, or \"auto\""), "{error}");
        }
    }
}
