//! The keys of a config that hold paths.

use std::path::Path;

use couplet_data::formats::is_url;
use couplet_data::paths::{PathKind, joined, normalized};
use couplet_eval::{dataset_path_kind, is_model_name};
use toml::{Table, Value};

/// What a path names, by its key without the places in lists.
fn kind_of(key: &str, path: &str) -> Option<PathKind> {
    let (table, name) = key.rsplit_once('.')?;
    match table {
        "model" => ["weights", "tokenizer"]
            .contains(&name)
            .then_some(PathKind::File),
        "guard" => (name == "datasets").then(|| dataset_path_kind(path)),
        "adapt" => (name == "weights").then_some(PathKind::File),
        "classify" | "eval" => (name == "dataset").then(|| dataset_path_kind(path)),
        "data.train" | "data.val" | "data.train.mix" | "data.val.mix" => {
            (["path", "shards", "files", "root"].contains(&name)).then_some(PathKind::Data)
        }
        _ => None,
    }
}

/// Visits every path of a table with its key, such as `data.train.mix[0].path`.
pub(super) fn visit(table: &mut Table, give: &mut dyn FnMut(&str, PathKind, &mut String)) {
    for (name, value) in table.iter_mut() {
        visit_value(value, name, name, give);
    }
}

/// - key: with the places in lists; plain: without them.
fn visit_value(
    value: &mut Value,
    key: &str,
    plain: &str,
    give: &mut dyn FnMut(&str, PathKind, &mut String),
) {
    match value {
        Value::Table(table) => {
            for (name, value) in table.iter_mut() {
                visit_value(
                    value,
                    &format!("{key}.{name}"),
                    &format!("{plain}.{name}"),
                    give,
                );
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                let key = match item {
                    Value::String(_) => key.to_string(),
                    _ => format!("{key}[{at}]"),
                };
                visit_value(item, &key, plain, give);
            }
        }
        Value::String(text) => {
            if let Some(kind) = kind_of(plain, text) {
                give(key, kind, text);
            }
        }
        _ => {}
    }
}

/// Makes every path absolute, but no name.
/// - start: of relative ones.
pub(crate) fn make_absolute(table: &mut Table, start: &Path) {
    visit(table, &mut |key, kind, path| {
        let absolute = joined(start, path);
        let is_name = kind == PathKind::Dataset { is_built_in: true }
            || (key == "model.weights" && is_model_name(path) && !absolute.exists());
        if !path.is_empty() && !is_name && !is_url(path) {
            *path = normalized(&absolute).display().to_string();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_holds_a_path_is_visited() {
        let mut table: Table = r#"
            name = "a"
            [model]
            preset = "b"
            weights = "1"
            tokenizer = "2"
            [adapt]
            weights = "8"
            [guard]
            datasets = ["shapes", "9"]
            [classify]
            dataset = "3"
            [[eval]]
            kind = "zero-shot"
            dataset = "shapes"
            weights = "ema"
            [data.train]
            source = "mix"
            [[data.train.mix]]
            source = "webdataset"
            shards = ["4", "s3://b/5.tar"]
            [data.val]
            source = "csv"
            path = "/6"
            root = "../7"
        "#
        .parse()
        .unwrap();
        let mut keys = Vec::new();
        visit(&mut table, &mut |key, _, _| keys.push(key.to_string()));
        let wanted = [
            "model.weights",
            "model.tokenizer",
            "adapt.weights",
            "guard.datasets",
            "guard.datasets",
            "classify.dataset",
            "eval[0].dataset",
            "data.train.mix[0].shards",
            "data.train.mix[0].shards",
            "data.val.path",
            "data.val.root",
        ];
        assert_eq!(keys, wanted);
        make_absolute(&mut table, Path::new("/x/y"));
        let mut paths = Vec::new();
        visit(&mut table, &mut |_, _, path| paths.push(path.clone()));
        let wanted = [
            "/x/y/1",
            "/x/y/2",
            "/x/y/8",
            "shapes",
            "/x/y/9",
            "/x/y/3",
            "shapes",
            "/x/y/4",
            "s3://b/5.tar",
            "/6",
            "/x/7",
        ];
        assert_eq!(paths, wanted);
    }
}
