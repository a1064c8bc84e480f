//! What a resumed run's config says otherwise than before.

use toml::{Table, Value};

use super::schema::may_change;

const MICRO: &str = "batch.micro";
/// What differs between two configs, one line a key: first what may, then what must not
/// in a resumed run.
/// - trains_norms: batch norms see one micro-batch at a time, whose size then matters.
pub(crate) fn changes(
    before: &Table,
    now: &Table,
    trains_norms: bool,
) -> (Vec<String>, Vec<String>) {
    let mut all = Vec::new();
    diff("", before, now, &mut all);
    let (harmless, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| {
        let counts = trains_norms && key == MICRO;
        !counts && may_change(key)
    });
    let lines = |changes: Vec<(String, String)>| {
        let lines = changes.into_iter();
        lines
            .map(|(key, change)| format!("{key}: {change}"))
            .collect()
    };
    (lines(harmless), lines(others))
}

fn diff(prefix: &str, before: &Table, now: &Table, out: &mut Vec<(String, String)>) {
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = format!("{prefix}{key}");
        match (before.get(key), now.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(now))) => {
                diff(&format!("{path}."), before, now, out);
            }
            (before, now) if before == now => {}
            (before, now) => {
                let show = |value: Option<&Value>| {
                    value.map_or_else(|| "unset".to_string(), ToString::to_string)
                };
                out.push((path, format!("{} became {}", show(before), show(now))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_falsify_a_run_are_told_apart() {
        let before: Table = "seed = 1\n[log]\nevery = '1 step'\n[optimizer]\nlr = 0.1"
            .parse()
            .unwrap();
        let now: Table =
            "seed = 1\n[log]\nevery = '2 steps'\n[optimizer]\nlr = 0.2\n[extra]\na = 1"
                .parse()
                .unwrap();
        let (harmless, changes) = changes(&before, &now, false);
        assert_eq!(harmless, ["log.every: \"1 step\" became \"2 steps\""]);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert!(changes[0].starts_with("extra: unset became"), "{changes:?}");
        assert_eq!(changes[1], "optimizer.lr: 0.1 became 0.2");
    }
}
