//! Every key of every config in every wrong table.

use toml::{Table, Value};

use super::super::issue::ConfigIssue;
use super::super::schema::ConfigSchema;
use super::super::{RunConfig, edit};
use super::agreement::{configs_as_written, parent, paths};
use super::keys::join;
use super::{Known, collect, set_right};

/// The mistakes of a config as a user wrote it.
fn mistakes(table: &Table) -> Vec<ConfigIssue> {
    let mut table = table.clone();
    let partial = edit::has_preset(&table).then_some("model");
    let respelled = set_right(ConfigSchema::run(), &mut table, partial);
    let (mut issues, renamed): (Vec<_>, Vec<_>) =
        (respelled.into_iter().map(|key| (key.issue, key.right))).unzip();
    edit::default_source(&mut table);
    issues.extend(edit::merge_preset(&mut table));
    let known = Known {
        renamed: &renamed,
        partial: edit::lacks_preset(&table).then_some("model"),
    };
    issues.extend(collect::<RunConfig>(table, ConfigSchema::run(), &known).issues);
    issues
}

/// A table's header as messages name it.
fn header(table: &str) -> String {
    let is_entry = table.ends_with(']');
    let names: Vec<&str> = table
        .split('.')
        .map(|part| part.split('[').next().unwrap())
        .collect();
    match (names.join("."), is_entry) {
        (name, _) if name.is_empty() => "the top of the file".into(),
        (name, false) => format!("[{name}]"),
        (name, true) => format!("[[{name}]]"),
    }
}

/// The table at a path; the empty path is the config.
fn table_at<'t>(outer: &'t mut Table, path: &str) -> &'t mut Table {
    let path = match path {
        "" => "root.x".to_string(),
        path => format!("root.{path}.x"),
    };
    let (found, _) = parent(outer, &path);
    found.as_table_mut().unwrap()
}

#[test]
fn a_key_in_a_wrong_table_is_reported_with_the_right_one_and_no_other_key_is() {
    let mut moved = 0;
    let mut still_sound = 0;
    for (name, config) in configs_as_written() {
        assert_eq!(mistakes(&config), [], "{name}");
        let mut all = Vec::new();
        paths(&Value::Table(config.clone()), "", &mut all);
        let mut outer = Table::from_iter([("root".to_string(), Value::Table(config))]);
        let is_table = |outer: &mut Table, path: &str| {
            let (found, name) = parent(outer, &join("root", path));
            match found {
                Value::Array(items) => items[name.parse::<usize>().unwrap()].is_table(),
                found => found[name.as_str()].is_table(),
            }
        };
        let mut tables = vec![String::new()];
        tables.extend(
            all.iter()
                .filter(|path| is_table(&mut outer, path))
                .cloned(),
        );
        for path in all.iter().filter(|path| !path.ends_with(']')) {
            let (home, key) = path.rsplit_once('.').unwrap_or(("", path));
            for table in &tables {
                let is_inside = table == path
                    || table.starts_with(&format!("{path}."))
                    || table.starts_with(&format!("{path}["));
                if table == home || is_inside {
                    continue;
                }
                let mut spoilt = outer.clone();
                let value = table_at(&mut spoilt, home).remove(key).unwrap();
                let target = table_at(&mut spoilt, table);
                if target.contains_key(key) {
                    continue;
                }
                target.insert(key.to_string(), value);
                let Some(Value::Table(spoilt)) = spoilt.remove("root") else {
                    unreachable!("the config is a table");
                };
                let found = mistakes(&spoilt);
                let at = join(table, key);
                let context = || format!("{name}: {path} as {at}: {found:?}");
                moved += 1;
                let here: Vec<_> = found.iter().filter(|issue| issue.key == at).collect();
                // What is left: the key's own place, where it is missing.
                let others = found
                    .iter()
                    .filter(|issue| issue.key != at && issue.key != *path);
                assert_eq!(others.count(), 0, "{}", context());
                match &here[..] {
                    // Another table takes the same key.
                    [] => still_sound += 1,
                    [issue] => assert!(issue.text().contains(&header(home)), "{}", context()),
                    _ => panic!("{}", context()),
                }
            }
        }
    }
    assert!(
        moved > 2000 && still_sound < moved / 10,
        "{moved} {still_sound}"
    );
}

#[test]
fn a_key_below_a_forgotten_header_is_moved() {
    let text = super::super::tests::SOUND.replace("[schedule]", "[schedule]\nimage = \"all\"");
    let found = mistakes(&text.parse().unwrap());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].key, "schedule.image");
    assert_eq!(found[0].text(), "unknown key; move it to [freeze]");

    let text = super::super::tests::SOUND.replace("[model]", "[model]\nimage = \"all\"");
    let found = mistakes(&text.parse().unwrap());
    assert_eq!(found.len(), 1, "{found:?}");
    let (key, message) = (found[0].key.as_str(), found[0].text());
    assert_eq!(key, "model.image");
    assert!(
        message.ends_with("did you mean `image` of [freeze]?"),
        "{message}"
    );

    let text = format!("train = 3\n{}", super::super::tests::SOUND);
    let found = mistakes(&text.parse().unwrap());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].text(), "unknown key; `train` is a key of [data]");
}
