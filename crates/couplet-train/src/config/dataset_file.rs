//! Dataset files, checked as configs are.

use std::sync::LazyLock;

use couplet_eval::{DatasetConfig, DatasetError};

use super::file::read_file;
use super::issue::ConfigError;
use super::schema::ConfigSchema;

/// The schema of a dataset file.
pub(crate) fn dataset_schema() -> &'static ConfigSchema {
    static DATASET: LazyLock<ConfigSchema> = LazyLock::new(ConfigSchema::of::<DatasetConfig>);
    &DATASET
}

/// Every mistake in the dataset file that an error is about, each with its place. `None` for an error that
/// is not about the keys of a file.
pub fn dataset_mistakes(error: &DatasetError) -> Option<ConfigError> {
    let DatasetError::Toml { path, .. } = error else {
        return None;
    };
    let read = read_file::<DatasetConfig>(path, dataset_schema());
    read.err()
        .filter(|error| matches!(error, ConfigError::Problems { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.toml");
        std::fs::write(&path, text).unwrap();
        let error = DatasetConfig::read(&path).unwrap_err();
        let Some(ConfigError::Problems { problems, .. }) = dataset_mistakes(&error) else {
            panic!("{error:?}");
        };
        let place = |issue: &crate::config::ConfigIssue| {
            let place = issue.place.clone().unwrap();
            format!(
                "{}:{} {}: {}",
                place.line(),
                place.column(),
                issue.key,
                issue.text()
            )
        };
        problems.iter().map(place).collect()
    }

    #[test]
    fn all_mistakes_of_a_dataset_file_are_found_at_once() {
        assert_eq!(
            mistakes(
                "name = 3\nsource = 'csv'\npth = 'a.csv'\nlabel_column = 4\ntemplate = ['{}']\n\
                 separator = ';;'\n"
            ),
            [
                "1:8 name: expected a string, found 3; write it in quotes: \"3\"",
                "3:1 pth: unknown key; did you mean `path`?",
                "4:16 label_column: expected a string, found 4; write it in quotes: \"4\"",
                "5:1 template: unknown key; did you mean `templates`?",
                "6:13 separator: expected one character, found \";;\"",
            ]
        );
        assert_eq!(
            mistakes("name = 'a'\nsource = 'cvs'\npath = 'a.csv'\n"),
            ["2:10 source: unknown value `cvs`; did you mean `csv`?"]
        );
        let syntax = mistakes("name = 'a'\nsource = csv\n");
        assert!(syntax[0].starts_with("2:10 : not TOML"), "{syntax:?}");
    }

    #[test]
    fn every_committed_dataset_file_is_sound() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "toml") {
                let read = read_file::<DatasetConfig>(&path, dataset_schema());
                assert!(read.is_ok(), "{:?}", read.err());
            }
        }
    }
}
