//! What differs between the configs of several runs.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::words::set_words_right;
use crate::numbers::shorten;

/// A key and its value in each of several configs, as TOML; `None` where a config lacks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDifference {
    /// Such as `data.train.mix[0].path`.
    pub key: String,
    pub values: Vec<Option<String>>,
}

/// The keys whose values differ between configs, but for their names.
/// - texts: the configs as TOML.
///
/// # Errors
/// If one is no TOML: its index and the parser's message.
pub fn config_differences(texts: &[String]) -> Result<Vec<ConfigDifference>, (usize, String)> {
    let flat = texts.iter().enumerate().map(|(at, text)| {
        let parsed: Result<Table, _> = text.parse();
        let mut table = parsed.map_err(|error| (at, error.to_string()))?;
        // A run of an earlier version has other words for the same.
        set_words_right(&mut table);
        shorten(&mut table);
        table.remove("name");
        let mut flat = BTreeMap::new();
        flatten("", &Value::Table(table), &mut flat);
        Ok(flat)
    });
    let flat: Vec<BTreeMap<String, String>> = flat.collect::<Result<_, _>>()?;
    let keys: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let differences = keys.into_iter().map(|key| ConfigDifference {
        key: key.clone(),
        values: flat.iter().map(|values| values.get(key).cloned()).collect(),
    });
    let differs = |found: &ConfigDifference| found.values.windows(2).any(|two| two[0] != two[1]);
    Ok(differences.filter(differs).collect())
}

fn flatten(path: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{key}"), value, out);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_table) => {
            for (at, value) in values.iter().enumerate() {
                flatten(&format!("{path}[{at}]"), value, out);
            }
        }
        value => {
            out.insert(path.to_string(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_listed_with_each_value() {
        let first = "name = 'a'\nseed = 1\n[loss]\nlabel_smoothing = 0.10000000149011612\n\
                     [optimizer]\nlr = 0.001\n[[eval]]\ndataset = 'x'\n";
        let second = "name = 'b'\nseed = 1\n[loss]\nlabel_smoothing = 0.1\n\
                      [optimizer]\nlr = 0.002\n[[eval]]\ndataset = 'x'\n[[eval]]\ndataset = 'y'\n";
        let texts = [first, second, first].map(String::from);
        let found = config_differences(&texts).unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                let values = one.values.iter();
                let values = values.map(|value| value.as_deref().unwrap_or("-"));
                format!("{}: {}", one.key, values.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "eval[1].dataset: - \"y\" -",
                "optimizer.lr: 0.001 0.002 0.001"
            ]
        );
        let texts = [
            "device = 'flex'\nprecision = 'f32'",
            "device = 'cpu'\nprecision = 'fp32'",
        ];
        assert_eq!(config_differences(&texts.map(String::from)).unwrap(), []);
        let (at, _) = config_differences(&["a = 1".into(), "a =".into()]).unwrap_err();
        assert_eq!(at, 1);
    }
}
