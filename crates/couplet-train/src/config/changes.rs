//! How a resumed run's config differs from that of the run so far.

use toml::{Table, Value};

use super::schema::may_change;
use crate::numbers::shorten;

const MICRO: &str = "batch.micro";

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Such as `data.train.mix[0].path`.
    pub key: String,
    /// `0.1 became 0.2`
    pub text: String,
    pub kind: ChangeKind,
}

/// Whether a run may go on with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// The run stays the same.
    Free,
    /// It says where the data is: the run stays the same if the data does.
    Place,
    /// `schedule.length`.
    Length,
    /// The run becomes another one, which must be asked for.
    Asked,
    /// What a checkpoint holds does not fit; the reason.
    Never(&'static str),
}

/// What differs between two configs.
/// - trains_norms: batch norms see one micro-batch at a time, whose size then matters.
pub(crate) fn changes(before: &Table, now: &Table, trains_norms: bool) -> Vec<Change> {
    let mut all = Vec::new();
    // Configs of earlier versions have more digits than an f32.
    let [before, now] = [before, now].map(|table| {
        let mut table = table.clone();
        shorten(&mut table);
        table
    });
    diff_tables("", &before, &now, &mut all);
    let all = all.into_iter().map(|(key, text)| Change {
        kind: match kind(&key, &text) {
            ChangeKind::Free if trains_norms && key == MICRO => ChangeKind::Asked,
            kind => kind,
        },
        key,
        text,
    });
    all.collect()
}

const UNSET: &str = "unset";

fn kind(key: &str, text: &str) -> ChangeKind {
    let plain: String = key.split(['[', ']']).step_by(2).collect();
    let is_below = |table: &str| plain == table || plain.starts_with(&format!("{table}."));
    let appears = text.starts_with(UNSET);
    match plain.as_str() {
        _ if may_change(&plain) => ChangeKind::Free,
        // The checkpoint says how many parts there are, and another number is refused when it is opened.
        "model.preset" | "model.weights" | "batch.parts" => ChangeKind::Free,
        "schedule.length" => ChangeKind::Length,
        "classify.dataset" => ChangeKind::Place,
        "seed" => ChangeKind::Never("every random draw of the run depends on it"),
        "optimizer.kind" => ChangeKind::Never("the moments are those of the former kind"),
        "model.init_logit_scale" | "model.init_logit_bias" | "classify.head" => {
            ChangeKind::Never("only the start of a run depends on it")
        }
        "model.tokenizer" => ChangeKind::Never("the model has learnt the former ids"),
        "ema" if appears => ChangeKind::Never("there is no average of the steps so far"),
        "model.image.patch_dropout" => ChangeKind::Asked,
        _ if is_below("model.preprocess") => ChangeKind::Asked,
        _ if is_below("model") => ChangeKind::Never("the weights have the former architecture"),
        _ if is_below("classify") => {
            ChangeKind::Never("the model has, or has not, a classification head")
        }
        _ if is_below("adapt") => ChangeKind::Never("the checkpoint has the former updates"),
        _ if is_below("guard") => ChangeKind::Never("only the start of a run is measured for it"),
        _ if is_below("freeze") => {
            ChangeKind::Never("frozen parameters have no moments to go on with")
        }
        _ if is_below("data.train") && is_place(&plain) => ChangeKind::Place,
        _ => ChangeKind::Asked,
    }
}

/// Whether a key of a source says where its files are.
fn is_place(key: &str) -> bool {
    let name = key.rsplit('.').next();
    name.is_some_and(|name| ["shards", "path", "files", "root"].contains(&name))
}

fn diff_tables(prefix: &str, before: &Table, now: &Table, out: &mut Vec<(String, String)>) {
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        diff(
            &format!("{prefix}{key}"),
            before.get(key),
            now.get(key),
            out,
        );
    }
}

fn diff(path: &str, before: Option<&Value>, now: Option<&Value>, out: &mut Vec<(String, String)>) {
    match (before, now) {
        (Some(Value::Table(before)), Some(Value::Table(now))) => {
            diff_tables(&format!("{path}."), before, now, out);
        }
        (Some(Value::Array(before)), Some(Value::Array(now)))
            if before.len() == now.len() && before.iter().all(Value::is_table) =>
        {
            for (at, (before, now)) in before.iter().zip(now).enumerate() {
                diff(&format!("{path}[{at}]"), Some(before), Some(now), out);
            }
        }
        (before, now) if before == now => {}
        (before, now) => {
            let show = |value: Option<&Value>| value.map_or(UNSET.to_string(), ToString::to_string);
            out.push((
                path.into(),
                format!("{} became {}", show(before), show(now)),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(before: &str, now: &str, trains_norms: bool) -> Vec<(String, ChangeKind)> {
        let found = changes(
            &before.parse().unwrap(),
            &now.parse().unwrap(),
            trains_norms,
        );
        found
            .into_iter()
            .map(|change| (change.key, change.kind))
            .collect()
    }

    #[test]
    fn what_a_run_may_go_on_with_is_told_apart() {
        let before = "seed = 1\nlog.every = '1 step'\nmodel.weights = 'a.pt'\n\
                      model.text.width = 8\nmodel.preprocess.fill_color = 0\n\
                      data.train = { source = 'csv', path = 'a.csv', resample = false }\n\
                      optimizer = { kind = 'adamw', lr = 0.1 }\nschedule.length = '1 epoch'\n\
                      batch = { global = 8, micro = 8 }\nranks.data = 'auto'";
        let now = "seed = 2\nlog.every = '2 steps'\nmodel.weights = 'b.pt'\n\
                   model.text.width = 16\nmodel.preprocess.fill_color = 1\n\
                   data.train = { source = 'csv', path = 'b.csv', resample = true }\n\
                   optimizer = { kind = 'lion', lr = 0.2 }\nschedule.length = '2 epochs'\n\
                   batch = { global = 16, micro = 4 }\nema.decay = 0.9\nranks.data = 'host'";
        let found = kinds(before, now, false);
        let is_never = |key: &str| {
            let kind = found.iter().find(|(own, _)| own == key).unwrap().1;
            matches!(kind, ChangeKind::Never(_))
        };
        for key in ["ema", "model.text.width", "optimizer.kind", "seed"] {
            assert!(is_never(key), "{key}: {found:?}");
        }
        let others: Vec<_> = found
            .iter()
            .filter(|(key, _)| !is_never(key))
            .cloned()
            .collect();
        let wanted = [
            ("batch.global", ChangeKind::Asked),
            ("batch.micro", ChangeKind::Free),
            ("data.train.path", ChangeKind::Place),
            ("data.train.resample", ChangeKind::Asked),
            ("log.every", ChangeKind::Free),
            ("model.preprocess.fill_color", ChangeKind::Asked),
            ("model.weights", ChangeKind::Free),
            ("optimizer.lr", ChangeKind::Asked),
            ("ranks.data", ChangeKind::Free),
            ("schedule.length", ChangeKind::Length),
        ];
        assert_eq!(others, wanted.map(|(key, kind)| (key.to_string(), kind)));
        assert!(kinds(before, now, true).contains(&("batch.micro".into(), ChangeKind::Asked)));
    }

    #[test]
    fn the_sources_of_a_mix_are_compared_one_by_one() {
        let mix = |path: &str, weight: f64| {
            format!("[[data.train.mix]]\npath = '{path}'\nweight = {weight}\n")
        };
        let found = kinds(
            &(mix("a", 1.0) + &mix("b", 1.0)),
            &(mix("a", 1.0) + &mix("c", 2.0)),
            false,
        );
        let wanted = [
            ("data.train.mix[1].path", ChangeKind::Place),
            ("data.train.mix[1].weight", ChangeKind::Asked),
        ];
        assert_eq!(found, wanted.map(|(key, kind)| (key.to_string(), kind)));
    }

    #[test]
    fn a_change_says_what_was_and_what_is() {
        let found = changes(
            &"optimizer.lr = 0.1".parse().unwrap(),
            &"optimizer.lr = 0.2\nema.decay = 0.5".parse().unwrap(),
            false,
        );
        let texts: Vec<_> = found.iter().map(|change| change.text.as_str()).collect();
        assert_eq!(texts, ["unset became { decay = 0.5 }", "0.1 became 0.2"]);
    }
}
