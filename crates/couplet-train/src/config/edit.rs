//! What happens to a config's table before it is read: `--set`, presets and defaults.

use couplet_model::presets;
use toml::{Table, Value};

use super::issue::ConfigIssue;
use super::schema::common_train_keys;
use crate::nearest::nearest;

const SOURCE_KEY: &str = "data.train.source=";

/// Takes away the keys of the file's source if `pair` chooses another one.
fn drop_source(table: &mut Table, pair: &str) {
    let chosen = pair.split_once('=').map_or("", |(_, value)| value);
    let chosen = chosen.trim().trim_matches(['"', '\'']);
    let train = table.get_mut("data").and_then(|data| data.get_mut("train"));
    if let Some(train) = train.and_then(Value::as_table_mut)
        && train.get("source").and_then(Value::as_str) != Some(chosen)
    {
        let common = common_train_keys();
        train.retain(|key, _| common.contains(&key));
    }
}

/// Applies `key.path=value` pairs. Another source goes first: it takes the keys of the
/// file's source away.
pub(super) fn set_keys(table: &mut Table, set: &[String]) -> Vec<ConfigIssue> {
    let (sources, others): (Vec<&String>, Vec<_>) = set
        .iter()
        .partition(|pair| pair.trim_start().starts_with(SOURCE_KEY));
    if let [.., last] = sources[..] {
        drop_source(table, last);
    }
    let pairs = sources.into_iter().chain(others);
    pairs
        .filter_map(|pair| set_key(table, pair).err())
        .collect()
}

/// Applies one `key.path=value`. The value is TOML, or else a plain string; without one
/// the key is taken away.
fn set_key(table: &mut Table, pair: &str) -> Result<(), ConfigIssue> {
    let Some((key, text)) = pair.split_once('=') else {
        return Err(ConfigIssue::new(pair, "expected --set key.path=value"));
    };
    let key = key.trim();
    let value = match format!("v = {text}").parse::<Table>() {
        Ok(mut parsed) => parsed.remove("v").unwrap_or_else(|| text.into()),
        Err(_) => Value::String(text.trim().to_string()),
    };
    let mut steps: Vec<&str> = key.split('.').collect();
    let last = steps.pop().filter(|last| !last.is_empty());
    let last = last.ok_or_else(|| ConfigIssue::new(pair, "expected --set key.path=value"))?;
    let no_table = || ConfigIssue::new(key, "--set path goes through a key that is not a table");
    let mut root = Value::Table(std::mem::take(table));
    let outcome = (|| {
        let mut at = &mut root;
        for step in steps {
            at = match at {
                Value::Table(table) => table
                    .entry(step)
                    .or_insert_with(|| Value::Table(Table::new())),
                Value::Array(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get_mut(index))
                    .ok_or_else(no_table)?,
                _ => return Err(no_table()),
            };
        }
        match at {
            Value::Table(table) if text.trim().is_empty() => {
                table.remove(last);
                Ok(())
            }
            Value::Table(table) => {
                table.insert(last.to_string(), value);
                Ok(())
            }
            Value::Array(items) => {
                let slot = last
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get_mut(index));
                *slot.ok_or_else(no_table)? = value;
                Ok(())
            }
            _ => Err(no_table()),
        }
    })();
    if let Value::Table(restored) = root {
        *table = restored;
    }
    outcome
}

/// Sets the source of `[data.train]` to the dataset of `[classify]` where it names none.
pub(super) fn default_source(table: &mut Table) {
    if !table.contains_key("classify") {
        return;
    }
    let empty = || Value::Table(Table::new());
    let data = table.entry("data").or_insert_with(empty);
    let Some(data) = data.as_table_mut() else {
        return;
    };
    let train = data.entry("train").or_insert_with(empty);
    if let Some(train) = train.as_table_mut() {
        train.entry("source").or_insert_with(|| "dataset".into());
    }
}

/// Puts the preset's keys under those that the config itself sets; an unknown preset has none.
pub(super) fn merge_preset(table: &mut Table) -> Option<ConfigIssue> {
    let model = table.get_mut("model")?.as_table_mut()?;
    let name = model.get("preset")?.as_str()?;
    let Some(spec) = presets::find(name) else {
        let names: Vec<_> = presets::names().collect();
        let advice = match nearest(name, names.iter().copied()) {
            Some(right) => format!("did you mean `{right}`? `couplet model list` prints all"),
            None => format!("the presets are {}", names.join(", ")),
        };
        let message = format!("unknown preset `{name}`; {advice}");
        return Some(ConfigIssue::new("model.preset", message));
    };
    underlay(model, Table::try_from(spec).ok()?);
    None
}

/// Whether `[model]` names a preset or weights, which supply the keys that the table lacks.
pub(super) fn has_preset(table: &Table) -> bool {
    let model = table.get("model");
    model.is_some_and(|model| {
        model
            .get("preset")
            .or_else(|| model.get("weights"))
            .is_some()
    })
}

/// Whether a preset is named that gives no keys, since it is unknown or not a name.
pub(super) fn lacks_preset(table: &Table) -> bool {
    let preset = table.get("model").and_then(|model| model.get("preset"));
    preset.is_some_and(|preset| preset.as_str().and_then(presets::find).is_none())
}

/// Puts keys under those that a table has.
pub(super) fn underlay(over: &mut Table, under: Table) {
    for (key, value) in under {
        match (over.get_mut(&key), value) {
            (Some(Value::Table(over)), Value::Table(under)) => underlay(over, under),
            (Some(_), _) => {}
            (None, value) => {
                over.insert(key, value);
            }
        }
    }
}
